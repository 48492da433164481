"""Whole studies of seconds, with the real trainer."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib

import pytest

from fipo.errors import UserError
from fipo.study.config import load_study
from fipo.study.study import run_study
from fipo.telemetry.run_directory import RunDirectory

pytestmark = pytest.mark.slow

ONE = """
[arms.fipo]
[arms.dapo]
recipe = { objective = { preset = "dapo" } }
"""


def weights(job):
    checkpoint = RunDirectory(job.folder).newest_checkpoint()
    return hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()


def test_with_one_mini_batch_a_step_fipo_is_dapo_bit_for_bit_and_with_more_it_is_not(write_study, tmp_path):
    study = write_study(ONE, seeds=1, mini_batches=1)
    _, (fipo, dapo) = load_study(study, {})
    run_study(study, {})
    assert weights(fipo) == weights(dapo)
    more = write_study(ONE, seeds=1, mini_batches=3)
    run_study(more, {"study.name": "more"})
    _, (fipo, dapo) = load_study(more, {"study.name": "more"})
    assert weights(fipo) != weights(dapo)


CONTROLLED = """
[arms.fipo]
[arms.shuffled]
control = "shuffled"
[arms.scaled]
recipe = { objective = { preset = "dapo" } }
learning_rate_times_mean_f_of = "fipo"
"""


def test_a_study_ends_with_tables_says_what_failed_and_does_nothing_twice(write_study):
    path = write_study(
        CONTROLLED + '[arms.broken]\nrecipe = { model = { path = "/no/such/model" } }\n', '[["fipo", "shuffled"]]', 1
    )
    study, outcome = run_study(path, {})
    assert outcome.failed == {"fipo": 0, "shuffled": 0, "scaled": 0, "broken": 1}
    config = tomllib.loads((study.folder / "runs/shuffled_seed_0/config.toml").read_text())
    assert config["resolved"]["control"] == "shuffled"
    scaled, fipo = (
        tomllib.loads((study.folder / f"runs/{name}_seed_0/config.toml").read_text())["update"]["learning_rate"]
        for name in ("scaled", "fipo")
    )
    assert scaled != fipo and scaled == pytest.approx(fipo * outcome.arms["fipo"]["mean_f"].mean)
    written = (study.folder / "runs/fipo_seed_0/metrics.jsonl").stat().st_mtime_ns
    assert run_study(path, {})[1] == outcome
    study.archive.unlink()
    assert run_study(path, {})[1] == outcome
    assert (study.folder / "runs/fipo_seed_0/metrics.jsonl").stat().st_mtime_ns == written


def test_the_archive_alone_is_enough_to_go_on_from_and_never_for_another_recipe(write_study):
    path = write_study(ONE, seeds=1)
    study, outcome = run_study(path, {})
    shutil.rmtree(study.folder / "runs")
    assert run_study(path, {})[1] == outcome
    assert not list((study.folder / "runs").iterdir())
    run_study(path, {"study.seeds": "2"})
    assert {run.name for run in (study.folder / "runs").iterdir()} == {"fipo_seed_1", "dapo_seed_1"}
    write_study(ONE, seeds=1, mini_batches=2)
    with pytest.raises(UserError, match=r"metrics\.jsonl\.gz: (fipo|dapo)_seed_0 was run with another recipe"):
        run_study(path, {})


def test_runs_import_nothing_from_the_working_directory(write_study, tmp_path, monkeypatch):
    (tmp_path / "tomllib.py").write_text("raise SystemExit('taken from the working directory')")
    monkeypatch.chdir(tmp_path)
    _, outcome = run_study(write_study("[arms.fipo]", "[]", seeds=1), {})
    assert outcome.failed == {"fipo": 0}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_every_run_and_the_same_command_ends_with_the_same_outcome(number, write_study):
    path = write_study(ONE, seeds=1)
    longer = ["--study.name", "cut"]
    command = [sys.executable, "-m", "fipo.cli", "study", str(path), *longer]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    runs = path.parent / "studies" / "cut" / "runs"
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(runs.glob("*/metrics.jsonl")):
        time.sleep(0.1)
    os.kill(process.pid, number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number and "the same command goes on from here" in errors
    resumed = run_study(path, {"study.name": "cut"})[1]
    assert json.dumps(resumed.as_json()) == json.dumps(run_study(path, {})[1].as_json())
