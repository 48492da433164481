"""Let the disk fail at every write of a small run in turn; then resume and compare.

A call fails with ENOSPC or EIO; or a write is made by half before that, or before the process is killed.
"""

import ctypes
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

SOURCE = Path(__file__).with_name("failing_disk.c")
STEPS = ("--run.steps", "4")
FAILURES = {  # the error's number, 0 = SIGKILL; whether a write is made by half first
    "ENOSPC": (errno.ENOSPC, 0),
    "EIO": (errno.EIO, 0),
    "half_ENOSPC": (errno.ENOSPC, 1),
    "half_SIGKILL": (0, 1),
}


def fail_every_write(folder: Path, *, every: int, say: Callable[[str], None]) -> None:
    """Raises subprocess.CalledProcessError at the first write whose failure loses anything."""
    library = folder / "failing_disk.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    program = [sys.executable, "-m", "tests.faults.disk", str(folder), str(every)]
    process = subprocess.Popen(
        program, env={**os.environ, "LD_PRELOAD": str(library)}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        say(line.rstrip())
    if process.wait() != 0:
        raise subprocess.CalledProcessError(process.returncode, program)


def _fail_every_write(folder: Path, every: int) -> None:
    from tests.faults.child import fork, fork_train
    from tests.faults.small_run import digests, make_small_run

    from fipo.telemetry.run_directory import RunDirectory
    from fipo.training.saving.checkpoint import find_damage

    log, recipe = folder / "log.txt", folder / "recipe.toml"
    assert fork(lambda: 0 if make_small_run(folder) else 1, log).wait() == 0, log.read_text()
    disk = ctypes.CDLL(None)

    def arm(nth: int, number: int, half: int) -> None:
        disk.failing_disk_arm(str(folder / "runs").encode(), ctypes.c_long(nth), number, half)

    def count_calls() -> int:
        arm(0, 0, 0)
        from fipo.cli import main

        code = main(["train", str(recipe), "--run.name", "left_in_peace", *STEPS])
        (folder / "calls.txt").write_text(str(disk.failing_disk_calls()))
        return code

    assert fork(count_calls, log).wait() == 0, log.read_text()
    calls = int((folder / "calls.txt").read_text())
    expected = digests(RunDirectory(folder / "runs" / "left_in_peace"))
    points = range(1, calls + 1, every)
    failures = len(FAILURES) * len(points)
    print(f"{calls} calls change files; {failures} failures to come", flush=True)

    stopped = killed = 0
    for kind, (number, half) in FAILURES.items():
        for done, nth in enumerate(points, start=1):
            name = f"{kind}_{nth}"
            run = RunDirectory(folder / "runs" / name)
            code = fork_train(recipe, name, log, *STEPS, first=partial(arm, nth, number, half)).wait()
            said = log.read_text()
            last = (said.rstrip().splitlines() or [""])[-1]
            died = code == -signal.SIGKILL and number == 0
            assert (died or code in (0, 1, 2)) and "Traceback" not in said, f"{name}: exit code {code}: {said}"
            assert died or code == 0 or last.startswith("fipo: "), f"{name}: no clear line: {said}"
            stopped += code > 0
            killed += died
            damaged = [path.name for path in run.all_checkpoints() if find_damage(path)]
            assert not damaged, f"{name}: damaged checkpoints {damaged}"
            code = fork_train(recipe, name, log, *STEPS).wait()
            assert code == 0, f"{name}: resume: exit code {code}: {log.read_text()}"
            found = digests(run)
            assert found == expected, f"{name}: {[k for k in {**found, **expected} if found.get(k) != expected.get(k)]}"
            if done % 10 == 1 or done == len(points):
                print(f"{name}: {done}/{len(points)}; said: {last}", flush=True)
    print(
        f"{failures} failures: {stopped} stopped the run with one line and {killed} killed it; "
        "all of it resumed to the same bits"
    )


if __name__ == "__main__":
    _fail_every_write(Path(sys.argv[1]), int(sys.argv[2]))
