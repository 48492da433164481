import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fipo.telemetry.run_directory import RunDirectory
from fipo.training.interruption import what_to_type


def start(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    """A run that has some steps behind it and would go on for hours."""
    command = [sys.executable, "-m", "fipo.cli", "train", str(folder / "recipe.toml"), "--run.steps", "100000"]
    process = subprocess.Popen([*command, *overrides], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    run = RunDirectory(folder / "runs" / "test")
    deadline = time.monotonic() + 120
    while len(run.read_metrics()) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    return process


@pytest.mark.slow
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_an_interrupted_run_saves_and_says_how_to_go_on(folder: Path, number: Any, exit_code: int) -> None:
    process = start(folder)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == exit_code
    run = RunDirectory(folder / "runs" / "test")
    last = run.read_metrics()[-1]["step"]
    assert run.all_checkpoints()[-1].name == f"step_{last:06d}"
    assert errors == f"fipo: interrupted after step {last}; {what_to_type(run)}\n"


def test_what_to_look_at_is_named_where_there_is_something(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["fipo"])
    run = RunDirectory(tmp_path / "a run")
    run.create({"run": {"name": "a run"}})
    assert what_to_type(run) == "add --resume to continue"
    run.metrics.touch()
    assert what_to_type(run) == f"add --resume to continue; fipo report '{run.path}' shows it so far"
    monkeypatch.setenv("FIPO_AGAIN", "make train")
    assert what_to_type(run).startswith("`make train` goes on from there; fipo report ")


@pytest.mark.slow
def test_a_second_ctrl_c_leaves_at_once_where_the_first_has_to_wait(folder: Path) -> None:
    (folder / "waiting.py").write_text("import time\n\ndef grade(response, problem):\n    time.sleep(300)\n")
    command = [sys.executable, "-m", "fipo.cli", "train", str(folder / "recipe.toml")]
    settings = ["--data.grader", "waiting:grade", "--grading.deadline_seconds", "500"]
    process = subprocess.Popen([*command, *settings], cwd=folder, stdout=subprocess.PIPE, text=True)
    while not (folder / "runs" / "test" / "config.toml").exists():
        time.sleep(0.05)
    time.sleep(2)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    process.send_signal(signal.SIGINT)
    assert process.wait(5) == -signal.SIGINT


@pytest.mark.slow
def test_output_that_cannot_be_written_stops_no_run(folder: Path) -> None:
    command = [sys.executable, "-m", "fipo.cli", "train", str(folder / "recipe.toml")]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(RunDirectory(folder / "runs" / "test").read_metrics()) == 5
    piped = subprocess.run(
        f"{' '.join(command)} --run.name piped | head -n 1", shell=True, capture_output=True, text=True
    )
    assert piped.stdout == "loading torch and transformers\n" and piped.stderr == ""
    assert len(RunDirectory(folder / "runs" / "piped").read_metrics()) == 5


@pytest.mark.slow
def test_a_quiet_run_prints_nothing_and_leaves_its_report(folder: Path) -> None:
    command = [sys.executable, "-m", "fipo.cli", "train", str(folder / "recipe.toml"), "--run.steps", "1", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert RunDirectory(folder / "runs" / "test").report.exists()
