"""Writes that are on disk, whole, when they return, or leave what was there before; failures name file and size."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from rich.filesize import decimal

from fipo.errors import UserError, why
from fipo.files import odd_kind, refuse_odd


class DiskError(Exception):
    """A file could not be written. The message is one line: the file, the reason, bytes needed and bytes free."""


def replace_file(path: Path, content: bytes) -> None:
    """`path` holds exactly `content`, or what it held before and a DiskError is raised; never a part.

    Where it is a link the file that it leads to is replaced. What is not a regular file stays as it is.
    """
    with disk_errors(path, len(content)):
        refuse_odd(path)
        target = Path(os.path.realpath(path))
        temporary = target.with_name(f".{token_hex(8)}.tmp")  # of this call alone, whoever else writes here
        try:
            with temporary.open("xb", buffering=0) as file:
                _write_all(file.fileno(), content)
                os.fsync(file.fileno())
            temporary.replace(target)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        fsync(target.parent)


def write_output(path: Path, content: bytes) -> None:
    """A file that the user named, as `replace_file`; what leads to the output of this process is written to."""
    descriptor = _own_output(path)
    if descriptor is None:
        replace_file(path, content)
        return
    sys.stdout.flush()
    with disk_errors(path, len(content)):
        _write_all(descriptor, content)


def refuse_unwritable(path: Path) -> None:
    """Raise UserError for a path that `write_output` could not write to: to be called before any work."""
    kind = odd_kind(path)
    if not Path(os.path.realpath(path)).parent.is_dir():
        kind = "none: there is no such folder"
    if kind and _own_output(path) is None:
        raise UserError(f"{path}: must be a file in an existing folder, got {kind}")


def append_line(path: Path, line: str) -> None:
    """One more line at the end of `path`, or the file as it was and a DiskError."""
    content = f"{line}\n".encode()
    with disk_errors(path, len(content)):
        refuse_odd(path)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        end = os.fstat(descriptor).st_size
        try:
            _write_all(descriptor, content)
            os.fsync(descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, end)
            raise
        finally:
            os.close(descriptor)


@contextmanager
def disk_errors(path: Path, needed: int | None = None) -> Iterator[None]:
    """Raise an OSError from inside as the DiskError that names `path` and the bytes it needed."""
    try:
        yield
    except OSError as error:
        raise DiskError(f"{path}: cannot be written: {why(error)}{_room(path, needed)}") from error


def remove(path: Path) -> None:
    """Whatever is there: a file, a link, a folder with all that is in it, or nothing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def fsync(path: Path) -> None:
    """A file's content, or a folder's entries, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _own_output(path: Path) -> int | None:
    """1 or 2 if the path leads to stdout or stderr, as /dev/stdout does."""
    for descriptor in (1, 2):
        with suppress(OSError, ValueError):
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                return descriptor
    return None


def _write_all(descriptor: int, content: bytes) -> None:
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]


def _room(path: Path, needed: int | None) -> str:
    if needed is None:
        return ""
    try:
        free = decimal(shutil.disk_usage(path.parent).free)
    except OSError:
        free = "an unknown amount"
    return f" (needed {decimal(needed)}, {free} free)"
