import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fipo.telemetry.run_directory import RunDirectory


@pytest.mark.slow
@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_finishes_its_step_saves_and_says_how_to_go_on(
    folder: Path, number: signal.Signals, exit_code: int
) -> None:
    command = [sys.executable, "-m", "fipo.cli", "train", str(folder / "recipe.toml"), "--run.steps", "100000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    run = RunDirectory(folder / "runs" / "test")
    deadline = time.monotonic() + 120
    while len(run.read_metrics()) < 4 and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == exit_code
    last = run.read_metrics()[-1]["step"]
    assert run.all_checkpoints()[-1].name == f"step_{last:06d}"
    assert errors == f"fipo: interrupted after step {last}; add --resume to continue\n"
