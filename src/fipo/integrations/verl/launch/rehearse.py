"""`fipo launch --rehearse`: the job's own overrides through the real verl trainer, on this machine's CPU."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from fipo.errors import RunStopped, UserError
from fipo.extras import install_hint
from fipo.integrations.verl.launch.rehearsed import done_steps, summary
from fipo.telemetry.durable import replace_file

GRADER = "reward.custom_reward_function.reward_kwargs.grader"
MODULE = "fipo.integrations.verl.rehearsal"
MINUTES = 25  # for one of the two starts: an error inside Ray may leave the driver waiting for ever
SHORTENED = ("trainer.logger=[console,file]", "trainer.test_freq=1", "trainer.save_freq=1")


def rehearse(job: Sequence[str], folder: Path, ranks: int) -> None:
    """A step with validation and checkpoint, then a second start that resumes from it for another step.

    Begun before with the same job and ranks, it goes on behind the last checkpoint. The log is in `folder/log.txt`.

    Raises UserError where verl is missing or another job was rehearsed, RunStopped if a start fails or takes too long.
    """
    if find_spec("verl") is None:
        raise UserError(f"--rehearse needs verl (Python 3.11 or 3.12): {install_hint('verl')}")
    overrides = folder / "job.json"
    written = json.dumps({"ranks": ranks, "job": list(job)}, indent=1)
    if overrides.exists() and overrides.read_text() != written:
        raise UserError(f"{folder}: another job was rehearsed there; remove it, or rehearse in another folder")
    print(_instead(job), flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(overrides, written.encode())
    for steps, what in ((1, "one step"), (2, "resumed for another one")):
        if done_steps(folder) >= steps:
            continue
        print(f"rehearsal: {what}, on {ranks} CPU rank{'s' * (ranks > 1)}; log: {folder / 'log.txt'}", flush=True)
        extra = [*SHORTENED, f"trainer.total_training_steps={steps}"]
        again = ["--again"] if steps > 1 else []
        _start(folder, [f"--folder={folder}", f"--ranks={ranks}", f"--job={overrides}", *again, *extra])
    print("\n".join(summary(folder)))


def _instead(job: Sequence[str]) -> str:
    """What of the job a rehearsal does not try."""
    named = [f" {line.partition('=')[2]}" for line in job if line.lstrip("+").startswith(f"{GRADER}=")]
    own = f"the job's own model, data and grader{''.join(named)} are not tried"
    return f"rehearsal: a tiny model of ours and its sums, graded by number; {own}"


def _start(folder: Path, arguments: Sequence[str]) -> None:
    """In a process of its own: verl reads the environment when it is imported, and Ray is gone with it."""
    command = [sys.executable, "-W", "ignore", "-m", MODULE, f"--log={folder / 'log.txt'}", *arguments]
    environment = {"RAY_worker_niceness": "0", **os.environ}  # at Ray's 15 a busy laptop never gets through the start
    try:
        done = subprocess.run(command, env=environment, timeout=60 * MINUTES, check=False)
    except subprocess.TimeoutExpired:
        raise RunStopped(
            f"the rehearsal was ended after {MINUTES} minutes without a result; see {folder / 'log.txt'}"
        ) from None
    if done.returncode != 0:
        raise RunStopped(
            f"the rehearsal failed with exit code {done.returncode}: {_last_line(folder)}; see {folder / 'log.txt'}"
        )


def _last_line(folder: Path) -> str:
    try:
        lines = (folder / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "it wrote no log"
    said = [line.strip() for line in lines if line.strip()]
    return said[-1].removeprefix("fipo: ")[:1000] if said else "it wrote nothing"
