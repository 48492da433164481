"""The fault programs, shortened; `python -m tests.faults --help` runs them at length."""

import shutil
from pathlib import Path

import pytest
from tests.faults.disk import fail_every_write
from tests.faults.kills import kill_and_compare


@pytest.mark.slow
def test_twenty_sigkills_leave_no_trace_in_the_result(tmp_path: Path) -> None:
    died = kill_and_compare(tmp_path, kills=20, seed=0, say=print)
    assert died.total() == 20
    assert died["inside saving"] > 0


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="the failing disk is a few lines of C")
def test_a_disk_that_fails_at_any_write_loses_nothing(tmp_path: Path) -> None:
    fail_every_write(tmp_path, every=23, say=print)
