"""SIGKILL a small run at random moments, inside saving included, resume it, and compare it with one left in peace."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from tests.faults.child import Child, fork, fork_eval, fork_train
from tests.faults.small_run import MODES, digests, eval_digests, make_small_run

from fipo.telemetry.run_directory import RunDirectory

STEPS = ("--run.steps", "8")


def kill_and_compare(
    folder: Path, *, kills: int, seed: int, say: Callable[[str], None], mode: str = "plain"
) -> Counter[str]:
    """Kill runs `kills` times in all; how often in which phase. Raises AssertionError at the first difference.

    Every third time a run that is being resumed dies before it has gone on: while it loads, or puts its files in order.
    """
    log, settings = folder / "log.txt", (*STEPS, *MODES[mode])
    assert fork(lambda: 0 if make_small_run(folder) else 1, log).wait() == 0, log.read_text()
    recipe, peace = folder / "recipe.toml", RunDirectory(folder / "runs" / "left_in_peace")
    duration = _seconds(recipe, peace, log, settings)
    expected = digests(peace)
    loading = _seconds(recipe, peace, log, settings)  # of a run that is finished
    assert digests(peace) == expected
    say(f"a run of {duration:.1f} s, {loading:.1f} s to resume, and {len(expected)} files to compare with")

    rng, started = random.Random(seed), time.monotonic()
    died: Counter[str] = Counter()
    runs = 0
    while died.total() < kills:
        runs += 1
        run = RunDirectory(folder / "runs" / f"killed_{runs}")
        deaths = 0
        while True:
            child = fork_train(recipe, run.path.name, log, *settings)
            if died.total() == kills:
                where = None
            elif deaths and rng.random() < 1 / 3:
                where = _kill_early(child, run, rng.uniform(0, loading))
            else:
                where = _kill(child, run, rng, duration)
            code = child.wait()
            if code != -signal.SIGKILL:
                break
            assert where is not None
            died[where] += 1
            deaths += 1
        assert code == 0, f"{run.path.name}: exit code {code}: {log.read_text()}"
        _compare(expected, digests(run), run.path)
        rate = died.total() / (time.monotonic() - started)
        say(
            f"{died.total()}/{kills} kills: run {runs} died {deaths} times and is the same "
            f"({(kills - died.total()) / max(rate, 1e-9):.0f} s left)"
        )
    return died


def kill_evals_and_compare(folder: Path, *, kills: int, seed: int, say: Callable[[str], None]) -> int:
    """The same of `fipo eval`, whose command is given again; how many evaluations that took."""
    log = folder / "log.txt"
    assert fork(lambda: 0 if make_small_run(folder) else 1, log).wait() == 0, log.read_text()
    recipe, peace = folder / "eval.toml", folder / "evals" / "left_in_peace"
    started = time.monotonic()
    assert fork_eval(recipe, peace.name, log).wait() == 0, log.read_text()
    duration, rng = time.monotonic() - started, random.Random(seed)
    died = evaluations = 0
    while died < kills:
        evaluations += 1
        name = f"killed_{evaluations}"
        while True:
            child = fork_eval(recipe, name, log)
            if died < kills:
                _wait(child, rng.uniform(0, duration))
                _send_kill(child)
            code = child.wait()
            if code != -signal.SIGKILL:
                break
            died += 1
        assert code == 0, f"{name}: exit code {code}: {log.read_text()}"
        _compare(eval_digests(peace), eval_digests(folder / "evals" / name), folder / "evals" / name)
    say(f"{died} kills of {evaluations} evaluations, and each equals the uninterrupted one bit for bit")
    return evaluations


def _seconds(recipe: Path, run: RunDirectory, log: Path, settings: Sequence[str]) -> float:
    started = time.monotonic()
    assert fork_train(recipe, run.path.name, log, *settings).wait() == 0, log.read_text()
    return time.monotonic() - started


def _kill_early(child: Child, run: RunDirectory, seconds: float) -> str:
    """Send SIGKILL so long after the start, but not later than the run goes on."""
    before = run.metrics.stat().st_mtime_ns if run.metrics.exists() else 0
    end = time.monotonic() + seconds
    while time.monotonic() < end and _alive(child):
        if run.metrics.exists() and run.metrics.stat().st_mtime_ns != before:
            break
        time.sleep(0.0002)
    _send_kill(child)
    return "in a resume"


def _kill(child: Child, run: RunDirectory, rng: random.Random, duration: float) -> str:
    """Send SIGKILL at a random moment, every other time within the writing of a checkpoint; what was going on."""
    if rng.random() < 0.5:
        _wait(child, rng.uniform(0, duration))
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
    _send_kill(child)
    return where


def _wait(child: Child, seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and _alive(child):
        time.sleep(0.002)


def _send_kill(child: Child) -> None:
    with suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGKILL)


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


def _compare(expected: dict[str, str], found: dict[str, str], where: Path) -> None:
    assert found.keys() == expected.keys(), f"{where}: other files: {sorted(found.keys() ^ expected.keys())}"
    differing = [name for name in expected if found[name] != expected[name]]
    assert not differing, f"{where}: other content: {differing}"
