"""Two gloo processes train as one does: the same mini-batches, gradients, weights and metrics."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("trl", reason="TRL is not installed here; make test-trl has an environment with it")

from safetensors.torch import load_file
from tests.conftest import random_model

HOST = {"step_time", "epoch", "num_tokens"}


Outcome = tuple[list[dict[str, float]], dict[str, torch.Tensor]]  # the logs, the weights


def launch(folder: Path, processes: int) -> None:
    start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    script = Path(__file__).with_name("some_processes.py")
    done = subprocess.run(
        [sys.executable, *start, str(script), str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def outcome(folder: Path, rank: int = 0) -> Outcome:
    return json.loads((folder / f"{rank}.json").read_text()), load_file(folder / f"{rank}.safetensors")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    launch(folder / "one", 1)
    launch(folder / "two", 2)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("scenario", ["filter", "sequence_means", "refill", "short", "graded"])
def test_two_processes_train_as_one_does(trained: Path, scenario: str) -> None:
    one_log, one = outcome(trained / "one" / scenario)
    two_log, two = outcome(trained / "two" / scenario)
    _, other_rank = outcome(trained / "two" / scenario, rank=1)

    assert all(torch.equal(two[name], other_rank[name]) for name in two)
    start = random_model(scale=4.0).double()
    for name, weight in one.items():
        before = start.get_parameter(name)
        torch.testing.assert_close(two[name] - before, weight - before, rtol=1e-5, atol=1e-8)
    assert any(not torch.equal(weight, start.get_parameter(name)) for name, weight in one.items())
    for here, there in zip(one_log, two_log, strict=True):
        assert here.keys() == there.keys()
        for key in here.keys() - HOST:
            assert here[key] == pytest.approx(there[key], rel=1e-4, abs=1e-7), key
    if scenario == "filter":
        assert one_log[1]["policy/filtered_sequences"] > 0
    if scenario == "refill":
        assert one_log[0]["groups/generation_batches"] > 1 and one_log[0]["groups/kept"] == 2
    if scenario == "graded":
        assert one_log[0]["grade/wrong"] > 0
        assert one_log[0]["rollout/importance_weight/capped"] > 0
    if scenario == "short":
        assert one_log[0]["groups/kept"] == 1
