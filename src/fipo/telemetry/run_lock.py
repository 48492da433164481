"""One process per run directory."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fipo.errors import UserError, why
from fipo.telemetry.durable import disk_errors


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Hold `folder/lock` while inside; the system lets go of it however the process ends.

    Raises UserError with the pid of the process that holds it already, and for a folder that cannot be made.
    """
    created = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot make the run directory: {why(error)}") from None
    path = folder / "lock"
    descriptor = _acquire(path)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
            if created:
                folder.rmdir()  # a run that never began leaves nothing behind
        os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Whether a process holds `folder/lock` now. A killed one leaves the file behind, but does not hold it.

    Asked by taking a shared lock for an instant, and only where there is a file.
    """
    try:
        descriptor = os.open(folder / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _acquire(path: Path) -> int:
    while True:
        with disk_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise UserError(f"{path.parent}: in use by the process with pid {holder}") from None
        if _is_file(path, descriptor):
            with disk_errors(path):
                os.ftruncate(descriptor, 0)
                os.write(descriptor, f"{os.getpid()}\n".encode())
            return descriptor
        os.close(descriptor)  # its holder removed it between our open and our lock


def _is_file(path: Path, descriptor: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False
