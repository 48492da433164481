"""A recipe for a random model that is asked for single digits, so that chance gives mixed groups."""

import json
from pathlib import Path

import pytest
from tests.conftest import random_model

from fipo.models.tokenizer import make_tokenizer

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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a model, data and a recipe."""
    tokenizer = make_tokenizer()
    random_model(scale=1.0).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    for name, numbers in (("train", range(40)), ("eval", range(40, 48))):
        rows = [
            {"prompt": f"{i}=", "reward_model": {"ground_truth": str(i % 3)}, "data_source": "digits"} for i in numbers
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "recipe.toml").write_text(RECIPE.format(folder=tmp_path))
    return tmp_path
