"""A run that is over in seconds: a random model is asked for single digits, so that chance gives mixed groups."""

import hashlib
import json
from pathlib import Path

from tests.conftest import random_model

from fipo.models.tokenizer import make_tokenizer
from fipo.telemetry.run_directory import RunDirectory

RECIPE = """
[run]
name = "test"
folder = "{folder}/runs"
steps = 4
[model]
path = "{folder}/model"
[data]
grader = "number"
train = {{ source = "file", path = "{folder}/train.jsonl" }}
eval = {{ source = "file", path = "{folder}/eval.jsonl" }}
[grading]
workers = 1
[rollout]
groups = 4
group_size = 4
generation_batch = 6
max_generation_batches = 20
max_prompt_tokens = 8
max_response_tokens = 12
[objective]
preset = "release_7b"
[update]
mini_batches = 2
learning_rate = 1e-3
[eval]
every = 2
samples = 2
[checkpoint]
every = 2
"""

EVAL_RECIPE = """
[model]
path = "{folder}/model"
device = "cpu"
decode_batch = 4
[data]
grader = "number"
eval = {{ source = "file", path = "{folder}/eval.jsonl" }}
[sampling]
samples = 6
max_response_tokens = 12
[grading]
workers = 1
[output]
name = "test"
folder = "{folder}/evals"
"""
MODES = {  # overrides of the recipe
    "plain": (),
    "lora": ("--model.lora.rank", "2", "--objective.kl_coef", "0.01"),
    "8bit": ("--update.optimizer", "adamw_8bit"),
}


def make_small_run(folder: Path) -> Path:
    """A model, data, `recipe.toml` and `eval.toml` in `folder`; returns the recipe's path."""
    random_model(scale=1.0).save_pretrained(folder / "model")
    make_tokenizer().save_pretrained(folder / "model")
    for name, numbers in (("train", range(40)), ("eval", range(40, 48))):
        rows = [
            {"prompt": f"{i}=", "reward_model": {"ground_truth": str(i % 3)}, "data_source": "digits"} for i in numbers
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "eval.toml").write_text(EVAL_RECIPE.format(folder=folder))
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.format(folder=folder))
    return recipe


def eval_digests(folder: Path) -> dict[str, str]:
    """The same of an evaluation: its samples, and what they come to."""
    names = ("samples.jsonl", "results.jsonl")
    summary = json.loads((folder / "summary.json").read_text())
    del summary["recipe"]["output"]  # its name
    files = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    return files | {"summary.json": json.dumps(summary)}


def digests(run: RunDirectory) -> dict[str, str]:
    """Everything in a run directory that must not depend on how often the run died: file by file."""
    left_out = {run.report, run.config, run.metrics}  # the report's ids are random, the config has the run's name
    files = sorted(path for path in run.path.rglob("*") if path.is_file() and path not in left_out)
    found = {str(path.relative_to(run.path)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    metrics = [{k: v for k, v in line.items() if not k.startswith("time/")} for line in run.read_metrics()]
    return found | {"metrics.jsonl": json.dumps(metrics, indent=0)}
