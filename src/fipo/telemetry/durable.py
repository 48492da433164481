"""Writes that are on disk, whole, when they return, or leave what was there before; failures name file and size."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.filesize import decimal


class DiskError(Exception):
    """A file could not be written. The message is one line: the file, the reason, bytes needed and bytes free."""


def replace_file(path: Path, content: bytes) -> None:
    """`path` holds exactly `content`, or what it held before and a DiskError is raised; never a part."""
    temporary = path.with_name(f".{path.name}.tmp")
    with disk_errors(path, len(content)):
        try:
            with temporary.open("wb", buffering=0) as file:
                _write_all(file.fileno(), content)
                os.fsync(file.fileno())
            temporary.replace(path)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        fsync(path.parent)


def append_line(path: Path, line: str) -> None:
    """One more line at the end of `path`, or the file as it was and a DiskError."""
    content = f"{line}\n".encode()
    with disk_errors(path, len(content)):
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
        raise DiskError(f"{path}: cannot be written: {error.strerror or error}{_room(path, needed)}") from error


def fsync(path: Path) -> None:
    """A file's content, or a folder's entries, on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
