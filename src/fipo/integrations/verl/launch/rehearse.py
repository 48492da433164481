"""`fipo launch --rehearse`: the job's own overrides through the real verl trainer, on this machine's CPU."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from fipo.errors import RunStopped, UserError

MODULE = "fipo.integrations.verl.rehearsal"
MINUTES = 25  # for one of the two starts: an error inside Ray may leave the driver waiting for ever
SHORTENED = ("trainer.logger=[console,file]", "trainer.test_freq=1", "trainer.save_freq=1")


def rehearse(job: Sequence[str], folder: Path, ranks: int) -> None:
    """A step with validation and checkpoint, then a second start that resumes from it for another step.

    Raises UserError where verl is missing, RunStopped if a start fails or takes too long.
    """
    if find_spec("verl") is None:
        raise UserError('--rehearse needs verl: pip install "fipo[verl]" (Python 3.11 or 3.12)')
    if folder.exists():
        raise UserError(f"{folder}: an earlier rehearsal is there; remove it, or rehearse in another folder")
    folder.mkdir(parents=True)
    overrides = folder / "job.json"
    overrides.write_text(json.dumps(list(job), indent=1))
    for steps, what in ((1, "one step"), (2, "resumed for another one")):
        print(f"rehearsal: {what}, on {ranks} CPU rank{'s' * (ranks > 1)}", flush=True)
        extra = [*SHORTENED, f"trainer.total_training_steps={steps}"]
        _start([f"--folder={folder}", f"--ranks={ranks}", f"--job={overrides}", *extra])
    print(f"rehearsal: nothing failed; metrics and checkpoints are in {folder}")


def _start(arguments: Sequence[str]) -> None:
    """In a process of its own: verl reads the environment when it is imported, and Ray is gone with it."""
    command = [sys.executable, "-W", "ignore", "-m", MODULE, *arguments]
    environment = {"RAY_worker_niceness": "0", **os.environ}  # at Ray's 15 a busy laptop never gets through the start
    try:
        done = subprocess.run(command, env=environment, timeout=60 * MINUTES, check=False)
    except subprocess.TimeoutExpired:
        raise RunStopped(
            f"the rehearsal was ended after {MINUTES} minutes without a result; see the log above"
        ) from None
    if done.returncode != 0:
        raise RunStopped(f"the rehearsal failed with exit code {done.returncode}; see the log above")
