"""SIGKILL a small run at random moments, inside saving included, resume it, and compare it with one left in peace."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.faults.child import Child, fork, fork_train
from tests.faults.small_run import digests, make_small_run

from fipo.telemetry.run_directory import RunDirectory

STEPS = ("--run.steps", "8")


def kill_and_compare(folder: Path, *, kills: int, seed: int, say: Callable[[str], None]) -> Counter[str]:
    """Kill runs `kills` times in all; how often in which phase. Raises AssertionError at the first difference."""
    log = folder / "log.txt"
    assert fork(lambda: 0 if make_small_run(folder) else 1, log).wait() == 0, log.read_text()
    recipe = folder / "recipe.toml"
    started = time.monotonic()
    assert fork_train(recipe, "left_in_peace", log, *STEPS).wait() == 0, log.read_text()
    duration = time.monotonic() - started
    expected = digests(RunDirectory(folder / "runs" / "left_in_peace"))
    say(f"a run of {duration:.1f} s and {len(expected)} files to compare with")

    rng = random.Random(seed)
    died: Counter[str] = Counter()
    runs = 0
    while died.total() < kills:
        runs += 1
        run = RunDirectory(folder / "runs" / f"killed_{runs}")
        deaths = 0
        while True:
            child = fork_train(recipe, run.path.name, log, *STEPS)
            where = _kill(child, run, rng, duration) if died.total() < kills else None
            code = child.wait()
            if code != -signal.SIGKILL:
                break
            assert where is not None
            died[where] += 1
            deaths += 1
        assert code == 0, f"{run.path.name}: exit code {code}: {log.read_text()}"
        _compare(expected, digests(run), run)
        rate = died.total() / (time.monotonic() - started)
        say(
            f"{died.total()}/{kills} kills: run {runs} died {deaths} times and is the same "
            f"({(kills - died.total()) / max(rate, 1e-9):.0f} s left)"
        )
    return died


def _kill(child: Child, run: RunDirectory, rng: random.Random, duration: float) -> str:
    """Send SIGKILL at a random moment, every other time within the writing of a checkpoint; what was going on."""
    if rng.random() < 0.5:
        end = time.monotonic() + rng.uniform(0, duration)
        while time.monotonic() < end and _alive(child):
            time.sleep(0.002)
    else:
        to_pass = rng.randrange(3)  # checkpoints that are let through first
        while _alive(child) and not (_saving(run) and to_pass == 0):
            if _saving(run):
                to_pass -= 1
                while _saving(run) and _alive(child):
                    time.sleep(0.0002)
            time.sleep(0.0002)
        time.sleep(rng.uniform(0, 0.02))
    where = _where(run)
    with suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGKILL)
    return where


def _alive(child: Child) -> bool:
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def _saving(run: RunDirectory) -> bool:
    return any(run.checkpoints.glob(".*.tmp"))


def _where(run: RunDirectory) -> str:
    if not run.config.exists():
        return "before the run began"
    if _saving(run):
        return "inside saving"
    return "before the first checkpoint" if run.newest_checkpoint() is None else "between checkpoints"


def _compare(expected: dict[str, str], found: dict[str, str], run: RunDirectory) -> None:
    assert found.keys() == expected.keys(), f"{run.path}: other files: {sorted(found.keys() ^ expected.keys())}"
    differing = [name for name in expected if found[name] != expected[name]]
    assert not differing, f"{run.path}: other content: {differing}"
