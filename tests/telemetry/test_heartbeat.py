import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fipo.telemetry.heartbeat import Heartbeat

STALL = """
import ctypes, sys, threading, time
from pathlib import Path
from fipo.telemetry import heartbeat
heartbeat.GRACE_SECONDS = {grace}
def wait_for_ever():
    {stall}
threading.Thread(target=time.sleep, args=(60,), name="another", daemon=True).start()
with heartbeat.Heartbeat(0.5, Path(sys.argv[1]), lambda: "grader 77 sits in user_grader.py") as watch:
    watch.enter("generate")
    wait_for_ever()
"""


def stall(tmp_path: Path, how: str) -> subprocess.CompletedProcess[str]:
    program = STALL.format(stall=how, grace=1.0)
    return subprocess.run(
        [sys.executable, "-c", program, tmp_path / "stall.txt"], capture_output=True, text=True, timeout=60
    )


def test_a_stalled_phase_writes_every_stack_and_ends_the_process_with_one_line(tmp_path: Path) -> None:
    done = stall(tmp_path, "time.sleep(60)")
    assert done.returncode == 1
    assert done.stderr.startswith("fipo: stalled: no sign of life for ")
    assert done.stderr.endswith(f"in phase 'generate'; stacks in {tmp_path / 'stall.txt'}; add --resume to continue\n")
    report = (tmp_path / "stall.txt").read_text()
    assert "in phase 'generate'" in report
    assert "in wait_for_ever" in report
    assert report.count("hread 0x") == 3  # the main one, the other one, and the watch itself
    assert "grader 77 sits in user_grader.py" in report


def test_a_stall_that_lets_no_python_thread_run_is_ended_too(tmp_path: Path) -> None:
    done = stall(tmp_path, "while True: ctypes.PyDLL(None).sleep(60)")
    assert done.returncode == -signal.SIGKILL
    assert done.stderr.startswith("fipo: stalled: no Python thread ran for ")
    assert done.stderr.endswith(f" s; stacks in {tmp_path / 'stall.txt'}; add --resume to continue\n")
    assert "in wait_for_ever" in (tmp_path / "stall.txt").read_text()


@pytest.mark.parametrize("stopped", ["the process", pytest.param("its watchdog too", marks=pytest.mark.slow)])
@pytest.mark.parametrize("holds_the_interpreter", [False, True])
def test_a_process_that_was_stopped_for_a_while_has_not_stalled(
    holds_the_interpreter: bool, stopped: str, tmp_path: Path
) -> None:
    """Longer than both limits together; afterwards it works on, beats after a while, and ends."""
    pause = "ctypes.PyDLL(None).usleep(200000)" if holds_the_interpreter else "time.sleep(0.2)"
    program = STALL.format(stall=f"[({pause}, time.sleep(0.01), watch.beat()) for _ in range(20)]", grace=2.0)
    process = subprocess.Popen([sys.executable, "-c", program, tmp_path / "stall.txt"])
    while not (tmp_path / "stall.txt").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    with open(f"/proc/{process.pid}/task/{process.pid}/children") as children:
        pids = [process.pid, *(int(child) for child in children.read().split() if stopped == "its watchdog too")]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    time.sleep(5)
    for pid in pids:
        os.kill(pid, signal.SIGCONT)
    assert process.wait(30) == 0
    assert not (tmp_path / "stall.txt").exists()


def test_a_killed_process_takes_its_watchdog_along(tmp_path: Path) -> None:
    program = STALL.format(stall="time.sleep(60)", grace=60)
    process = subprocess.Popen([sys.executable, "-c", program.replace("Heartbeat(0.5", "Heartbeat(60"), tmp_path / "s"])
    while not (tmp_path / "s").exists():
        time.sleep(0.05)
    time.sleep(0.5)
    (watchdog,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    until = time.monotonic() + 10
    while Path(f"/proc/{watchdog}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{watchdog}").exists()


def test_a_report_that_somebody_removed_is_no_error_and_one_that_is_no_file_is_refused(tmp_path: Path) -> None:
    report = tmp_path / "stall.txt"
    with Heartbeat(100.0, report, str):
        report.unlink()
    os.mkfifo(report)
    with pytest.raises(OSError, match="must be a regular file, got a FIFO"), Heartbeat(100.0, report, str):
        pass


def test_a_report_that_was_removed_is_made_again_for_the_stacks(tmp_path: Path) -> None:
    assert stall(tmp_path, "Path(sys.argv[1]).unlink(); time.sleep(60)").returncode == 1
    assert "in wait_for_ever" in (tmp_path / "stall.txt").read_text()


def test_beats_keep_a_slow_phase_alive(tmp_path: Path) -> None:
    done = stall(tmp_path, "[(time.sleep(0.1), watch.beat()) for _ in range(20)]")
    assert (done.returncode, done.stderr) == (0, "")
    assert not (tmp_path / "stall.txt").exists()


@pytest.mark.parametrize("evidence", ["", "stacks of an earlier stall\n"])
def test_only_an_empty_report_is_removed_at_the_end(tmp_path: Path, evidence: str) -> None:
    report = tmp_path / "stall.txt"
    report.write_text(evidence)
    with Heartbeat(100.0, report, str):
        assert report.exists()
    assert (report.read_text() if report.exists() else "") == evidence
    assert report.exists() == bool(evidence)
