"""What a path leads to. Only regular files are read and written: a FIFO waits for ever, and a device is no file."""

import errno
import os
import stat
from pathlib import Path

KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
    stat.S_IFSOCK: "a socket",
}


def odd_kind(path: str | os.PathLike[str]) -> str | None:
    """ "a folder", "a FIFO", ... of what is there, links followed; None of a regular file, and where nothing is."""
    try:
        return KINDS.get(stat.S_IFMT(os.stat(path).st_mode))
    except (OSError, ValueError):  # nothing can be read there either, which opening it will say
        return None


def refuse_odd(path: str | os.PathLike[str]) -> None:
    """Raise OSError, naming the path, for what is neither a regular file nor missing."""
    if kind := odd_kind(path):
        raise OSError(errno.EINVAL, f"must be a regular file, got {kind}", os.fspath(path))


def read_regular(path: Path) -> bytes:
    """The content of a regular file. Raises OSError for anything else, without waiting for it."""
    refuse_odd(path)
    return path.read_bytes()
