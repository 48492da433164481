import subprocess
import sys
from pathlib import Path

import pytest

from fipo.telemetry.run_directory import RunDirectory


@pytest.mark.slow
def test_a_stalled_run_names_the_phase_shows_where_the_grader_hangs_and_goes_on_when_resumed(folder: Path) -> None:
    grader = folder / "waiting.py"
    grader.write_text("import time\n\ndef grade(response, problem):\n    time.sleep(300)\n")
    command = [sys.executable, "-m", "fipo.cli", "train", str(folder / "recipe.toml"), "--resume"]
    settings = ["--data.grader", "waiting:grade", "--grading.deadline_seconds", "500", "--telemetry.stall_seconds", "6"]
    stalled = subprocess.run([*command, *settings], cwd=folder, capture_output=True, text=True, timeout=120)
    run = RunDirectory(folder / "runs" / "test")
    assert stalled.returncode == 1
    assert stalled.stderr.startswith("fipo: stalled: no sign of life for ")
    assert f"in phase 'eval'; stacks in {run.stall}; add --resume to continue" in stalled.stderr
    stacks = run.stall.read_text()
    assert f'File "{grader}", line 4 in grade' in stacks
    assert "in run_all" in stacks

    grader.write_text("def grade(response, problem):\n    return '1' in response\n")
    resumed = subprocess.run([*command, *settings], cwd=folder, capture_output=True, text=True, timeout=120)
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert [line["step"] for line in run.read_metrics()] == [0, 1, 2, 3, 4]
