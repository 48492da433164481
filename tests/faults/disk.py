"""Let the disk fail at every write of a small run in turn, with ENOSPC and with EIO; then resume and compare."""

import ctypes
import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

SOURCE = Path(__file__).with_name("failing_disk.c")
STEPS = ("--run.steps", "4")


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

    def arm(nth: int, number: int) -> None:
        disk.failing_disk_arm(str(folder / "runs").encode(), ctypes.c_long(nth), number)

    def count_calls() -> int:
        arm(0, 0)
        from fipo.cli import main

        code = main(["train", str(recipe), "--run.name", "left_in_peace", *STEPS])
        (folder / "calls.txt").write_text(str(disk.failing_disk_calls()))
        return code

    assert fork(count_calls, log).wait() == 0, log.read_text()
    calls = int((folder / "calls.txt").read_text())
    expected = digests(RunDirectory(folder / "runs" / "left_in_peace"))
    points = range(1, calls + 1, every)
    print(f"{calls} calls change files; {2 * len(points)} failures to come", flush=True)

    stopped = 0
    for number in (errno.ENOSPC, errno.EIO):
        for done, nth in enumerate(points, start=1):
            name = f"{errno.errorcode[number]}_{nth}"
            run = RunDirectory(folder / "runs" / name)
            code = fork_train(recipe, name, log, *STEPS, first=lambda nth=nth, number=number: arm(nth, number)).wait()
            said = log.read_text()
            last = said.rstrip().splitlines()[-1]
            assert code in (0, 1, 2) and "Traceback" not in said, f"{name}: exit code {code}: {said}"
            assert code == 0 or last.startswith("fipo: "), f"{name}: no clear line: {said}"
            stopped += code != 0
            damaged = [path.name for path in run.all_checkpoints() if find_damage(path)]
            assert not damaged, f"{name}: damaged checkpoints {damaged}"
            code = fork_train(recipe, name, log, *STEPS).wait()
            assert code == 0, f"{name}: resume: exit code {code}: {log.read_text()}"
            found = digests(run)
            assert found == expected, f"{name}: {[k for k in {**found, **expected} if found.get(k) != expected.get(k)]}"
            if done % 10 == 1 or done == len(points):
                print(f"{name}: {done}/{len(points)}; said: {last}", flush=True)
    print(f"{2 * len(points)} failures: {stopped} stopped the run with one line; all of it resumed to the same bits")


if __name__ == "__main__":
    _fail_every_write(Path(sys.argv[1]), int(sys.argv[2]))
