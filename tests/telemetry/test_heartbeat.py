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
heartbeat.GRACE_SECONDS, heartbeat.REARM_SECONDS = 0.5, 0.1
def wait_for_ever():
    {stall}
threading.Thread(target=time.sleep, args=(60,), name="another", daemon=True).start()
with heartbeat.Heartbeat(0.5, Path(sys.argv[1]), lambda: "grader 77 sits in user_grader.py") as watch:
    watch.enter("generate")
    wait_for_ever()
"""


def stall(tmp_path: Path, how: str) -> subprocess.CompletedProcess[str]:
    program = STALL.format(stall=how)
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
    done = stall(tmp_path, "ctypes.PyDLL(None).sleep(60)")
    assert done.returncode == 1
    assert "in wait_for_ever" in (tmp_path / "stall.txt").read_text()


def test_a_process_that_was_stopped_for_a_while_has_not_stalled(tmp_path: Path) -> None:
    program = STALL.format(stall="[(time.sleep(0.05), watch.beat()) for _ in range(40)]")
    program = program.replace(
        "GRACE_SECONDS, heartbeat.REARM_SECONDS = 0.5", "GRACE_SECONDS, heartbeat.REARM_SECONDS = 60"
    )
    process = subprocess.Popen([sys.executable, "-c", program, tmp_path / "stall.txt"])
    while not (tmp_path / "stall.txt").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGSTOP)
    time.sleep(4)
    process.send_signal(signal.SIGCONT)
    assert process.wait(30) == 0


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
