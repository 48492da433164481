"""What a job will meet: each finding, and that a recipe which avoids it is not told of it."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fipo.doctor.findings import Finding
from fipo.integrations.verl.launch.outlook import outlook
from fipo.integrations.verl.launch.recipe import Destination, load_launch_recipe

RECIPE = Path(__file__).parents[4] / "recipe" / "fipo" / "fipo_qwen2.5_32b.toml"
ACTOR, ROLLOUT = "verl.actor_rollout_ref.actor", "verl.actor_rollout_ref.rollout"


def found(
    overrides: dict[str, str] | None = None,
    *,
    runtime_env: Path | None = None,
    environment: dict[str, str] | None = None,
) -> dict[str, Finding]:
    """By the first key of each."""
    recipe = load_launch_recipe(RECIPE, overrides or {}, {"RAY_DATA_HOME": "/data", **(environment or {})})
    place = Destination(address="http://head:8265", working_dir="/job", runtime_env=runtime_env and str(runtime_env))
    return {finding.keys[0]: finding for finding in outlook(recipe, place, environment or {})}


def test_the_32b_run_saves_393_gb_every_five_steps_and_keeps_them_all() -> None:
    checkpoints = found()["verl.trainer.save_freq"]
    assert checkpoints.level == "warning"
    assert checkpoints.text == "each checkpoint takes 393 GB, one every 5 steps, all of them kept"
    assert checkpoints.advice == "--verl.trainer.max_actor_ckpt_to_keep 3"
    known = found({"verl.trainer.total_training_steps": "500"})["verl.trainer.save_freq"]
    assert known.text.endswith("all of them kept: 39 TB after 500 steps")


def test_checkpoints_that_are_deleted_are_a_note_and_none_at_all_a_warning() -> None:
    few = found({"verl.trainer.max_actor_ckpt_to_keep": "3"})
    assert few["verl.trainer.max_actor_ckpt_to_keep"].text.endswith("3 kept: 1,179 GB")
    assert few["verl.trainer.max_actor_ckpt_to_keep"].level == "note"
    assert found({"verl.trainer.save_freq": "-1"})["verl.trainer.save_freq"].text == "the job saves nothing"


def test_hours_are_of_all_steps_which_the_training_file_tells_where_it_is_here(tmp_path: Path) -> None:
    key = "verl.trainer.total_training_steps"
    assert found()[key].text.startswith("how many steps the job has is not known here")
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"prompt": ["x"] * 1600}), path)
    one, two = (found({"job.train_file": str(path), "verl.trainer.total_epochs": n})[key].text for n in ("1", "2"))
    assert one.startswith("3 steps are ") and two.startswith("6 steps are ")
    assert found({key: "100"})[key].text.startswith("100 steps are ")


@pytest.mark.parametrize("line", ["WANDB_API_KEY: abc", "WANDB_MODE: offline"])
def test_wandb_without_a_key_in_the_jobs_environment_is_warned_of(line: str, tmp_path: Path) -> None:
    assert found()["verl.trainer.logger"].level == "warning"
    here = found(environment={"WANDB_API_KEY": "abc"})["verl.trainer.logger"]
    assert "it is set here, which does not reach the job" in here.text
    assert "verl.trainer.logger" not in found({"verl.trainer.logger": '["console"]'})
    path = tmp_path / "env.yaml"
    path.write_text(f"env_vars:\n  {line}\n")
    assert "verl.trainer.logger" not in found(runtime_env=path)


@pytest.mark.parametrize(
    ("key", "value", "level", "text"),
    [
        ("job.gpu_memory_gib", "32", "problem", "a GPU needs 38.6 GiB at its peak and has 32"),
        (f"{ACTOR}.ppo_mini_batch_size", "512", "warning", "with one update per batch every ratio is 1"),
        (
            f"{ROLLOUT}.log_prob_max_token_len_per_gpu",
            "1000",
            "warning",
            "22528 and 1000: old log-probs of other packs",
        ),
        ("job.entry_point", "verl.trainer.main_ppo", "warning", "under verl.trainer.main_ppo nothing checks the job"),
    ],
)
def test_what_would_go_wrong_is_said_once_and_not_without_cause(key: str, value: str, level: str, text: str) -> None:
    first = {f"{ROLLOUT}.log_prob_max_token_len_per_gpu": f"{ACTOR}.ppo_max_token_len_per_gpu"}.get(key, key)
    assert first not in found()
    finding = found({key: value})[first]
    assert finding.level == level
    assert finding.text.startswith(text)
    assert finding.advice


def test_bfloat16_is_warned_of_where_its_rounding_is_weighed_and_float16_must_be_that_of_both() -> None:
    key, sampled = f"{ACTOR}.fsdp_config.mixed_precision.param_dtype", f"{ROLLOUT}.dtype"
    assert found()[key].text.startswith("the policy is computed in bfloat16, as published")
    assert key not in found({f"{ACTOR}.policy_loss.preset": "dapo"})
    assert key not in found({key: "fp16", sampled: "float16"})
    assert found({key: "fp16"})[key].text == "the trainer computes in float16 and the sampler in bfloat16"


def test_the_key_of_a_dtype_that_no_engine_reads_is_warned_of() -> None:
    key = f"{ACTOR}.fsdp_config.dtype"
    assert key not in found()
    assert found({key: "float16"})[key].text == "no FSDP engine of verl 0.9.1 reads it"


def test_what_is_not_here_is_said_not_to_be_looked_into(tmp_path: Path) -> None:
    assert found()["job.model"].keys == ("job.model", "job.train_file", "job.test_file")
    rest = found({"job.model": str(tmp_path), "job.train_file": "s3://bucket/train.parquet"})
    assert rest["job.test_file"].keys == ("job.test_file",)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (f"{ACTOR}.checkpoint.save_contents", '[["model"], 1, "model"]'),
        ("job.train_file", "/dev/zero"),
        ("job.test_file", "a" * 5000),
        ("verl.trainer.save_freq", str(2**63 - 1)),
        ("verl.trainer.total_training_steps", str(-(2**63))),
    ],
)
def test_an_odd_value_ends_no_outlook(key: str, value: str) -> None:
    assert found({key: value})


def test_an_environment_that_is_no_table_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "env.yaml"
    path.write_text("env_vars: [WANDB_API_KEY]\n")
    assert "verl.trainer.logger" not in found(runtime_env=path)
