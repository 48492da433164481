"""A run with two checkpoints, trained for two steps."""

import pytest

from fipo.cli import main
from fipo.recipe.packaged import FOLDER
from fipo.telemetry.run_directory import RunDirectory

SHORT = {
    "run.steps": 2,
    "rollout.groups": 2,
    "rollout.generation_batch": 2,
    "rollout.group_size": 4,
    "rollout.max_response_tokens": 32,
    "update.mini_batches": 2,
    "data.train.count": 16,
    "data.eval.count": 4,
    "eval.samples": 2,
    "eval.every": 1,
    "checkpoint.every": 1,
}


def short_run(folder, name, *more):
    """The run directory of a few seconds' training."""
    words = [f"--{key}={value}" for key, value in SHORT.items()]
    given = ["--run.folder", str(folder), "--run.name", name, "--quiet"]
    assert main(["train", str(FOLDER / "quickstart.toml"), *given, *words, *more]) == 0
    return RunDirectory(folder / name)


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return short_run(tmp_path_factory.mktemp("runs"), "base")


@pytest.fixture(scope="session")
def adapted(tmp_path_factory):
    pytest.importorskip("peft")
    return short_run(tmp_path_factory.mktemp("runs"), "adapted", "--model.lora.rank", "2", "--run.steps", "1")
