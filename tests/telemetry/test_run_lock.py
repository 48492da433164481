import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fipo.errors import UserError
from fipo.telemetry.run_lock import is_locked, run_lock

HOLD = """
import sys, time
from pathlib import Path
from fipo.telemetry.run_lock import is_locked, run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that holds the lock of `tmp_path/run`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path / "run"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_process_is_refused_with_the_pid_of_the_first(holder: subprocess.Popen, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error, run_lock(tmp_path / "run"):
        pass
    assert str(error.value) == f"{tmp_path / 'run'}: in use by the process with pid {holder.pid}"


def test_a_killed_process_holds_nothing(holder: subprocess.Popen, tmp_path: Path) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with run_lock(tmp_path / "run"):
        assert (tmp_path / "run" / "lock").read_text() == f"{os.getpid()}\n"


def test_the_lock_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with run_lock(tmp_path / "run"):
            (tmp_path / "run" / "file").touch()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["file"]


def test_two_locks_in_one_process_are_one_too_many(tmp_path: Path) -> None:
    with run_lock(tmp_path / "run"), pytest.raises(UserError, match=f"pid {os.getpid()}"), run_lock(tmp_path / "run"):
        pass


def test_a_run_that_never_began_leaves_nothing_behind(tmp_path: Path) -> None:
    with run_lock(tmp_path / "run"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_mistake_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(UserError, match="cannot make the run directory: Not a directory"),
        run_lock(tmp_path / "file/x"),
    ):
        pass


def test_a_lock_that_another_process_holds_is_seen(holder: subprocess.Popen, tmp_path: Path) -> None:
    assert is_locked(tmp_path / "run")


def test_what_a_killed_process_left_is_no_lock(holder: subprocess.Popen, tmp_path: Path) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "run" / "lock").exists()
    assert not is_locked(tmp_path / "run")


def test_a_folder_without_a_lock_is_not_locked(tmp_path: Path) -> None:
    assert not is_locked(tmp_path)
