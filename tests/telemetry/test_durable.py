import errno
import os
import resource
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from fipo.errors import UserError
from fipo.telemetry.durable import DiskError, append_line, disk_errors, refuse_unwritable, replace_file


@contextmanager
def largest_file(size: int):
    """The system cuts writes off at `size` bytes, in the middle of a line too."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_is_replaced_by_exactly_the_new_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"first and long", b"", b"second"):
        replace_file(path, content)
        assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_a_replacement_that_does_not_fit_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")
    with largest_file(1000), pytest.raises(DiskError, match=r"file: cannot be written: File too large"):
        replace_file(path, b"x" * 2000)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_named_with_the_bytes_needed_and_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fipo.telemetry.durable._write_all", no_room)
    with pytest.raises(DiskError) as error:
        replace_file(tmp_path / "file", b"x" * 12_345)
    message = str(error.value)
    assert message.startswith(f"{tmp_path / 'file'}: cannot be written: No space left on device (needed 12.3 kB, ")
    assert message.endswith(" free)")
    assert not (tmp_path / "file").exists()


def test_lines_are_appended_one_by_one(tmp_path: Path) -> None:
    for line in ("one", "zwei ∑", ""):
        append_line(tmp_path / "lines", line)
    assert (tmp_path / "lines").read_text(encoding="utf-8") == "one\nzwei ∑\n\n"


def test_a_line_that_does_not_fit_leaves_no_part_of_itself(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    append_line(path, "first")
    with largest_file(20), pytest.raises(DiskError, match=r"lines: cannot be written: .* \(needed 101 bytes"):
        append_line(path, "x" * 100)
    assert path.read_text() == "first\n"
    append_line(path, "second")
    assert path.read_text() == "first\nsecond\n"


def test_a_line_for_a_full_disk_is_a_disk_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fipo.telemetry.durable._write_all", no_room)
    with pytest.raises(DiskError, match="No space left on device"):
        append_line(tmp_path / "lines", "x")


ODD = {
    "folder": lambda path: path.mkdir(),
    "FIFO": os.mkfifo,
    "socket": lambda path: socket.socket(socket.AF_UNIX).bind(str(path)),
    "character device": lambda path: path.symlink_to("/dev/full"),
}


@pytest.mark.parametrize("link", [False, True], ids=["itself", "through a link"])
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("write", [replace_file, append_line], ids=["replaced", "appended to"])
def test_what_is_not_a_regular_file_is_never_written_to_or_replaced(
    write, kind: str, link: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    odd, path = Path("odd"), Path("link") if link else Path("odd")
    ODD[kind](odd)
    if link:
        path.symlink_to(odd)
    before = odd.stat()
    with pytest.raises(DiskError, match=f"^{path}: cannot be written: must be a regular file, got a {kind}"):
        write(path, "x" if write is append_line else b"x")
    assert os.path.samestat(odd.stat(), before)
    assert {entry.name for entry in Path().iterdir()} == {odd.name, path.name}


def test_a_link_stays_a_link_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "link"
    path.symlink_to("elsewhere/file")
    for content in (b"made", b"replaced"):
        replace_file(path, content)
        assert path.is_symlink()
        assert (tmp_path / "elsewhere" / "file").read_bytes() == content


def test_several_at_once_write_one_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([i]) * 100_000 for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: [replace_file(path, content) for _ in range(20)], contents))
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_as_long_as_names_can_be_is_written(tmp_path: Path) -> None:
    replace_file(tmp_path / ("n" * 255), b"x")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"x"


@pytest.mark.parametrize("output", ["pipe", "file"])
def test_the_output_of_the_process_is_written_to(output: str, tmp_path: Path) -> None:
    program = "from pathlib import Path; from fipo.telemetry.durable import refuse_unwritable, write_output\n"
    program += "print('before'); path = Path('/dev/stdout'); refuse_unwritable(path); write_output(path, b'it\\n')\n"
    program += "print('after')"
    kept = tmp_path / "kept"
    with kept.open("wb") as file:
        target = subprocess.PIPE if output == "pipe" else file
        done = subprocess.run([sys.executable, "-c", program], stdout=target, timeout=60)
    assert done.returncode == 0
    assert (done.stdout or kept.read_bytes()) == b"before\nit\nafter\n"


@pytest.mark.parametrize("place", ["no folder/file", "dangling", "", "fifo"])
def test_an_output_that_cannot_be_is_refused_before_any_work(place: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to("no folder/file")
    with pytest.raises(UserError, match=r"must be a file in an existing folder, got (a F|a f|none: there is no such)"):
        refuse_unwritable(tmp_path / place)


def test_an_error_without_a_size_names_the_file_alone(tmp_path: Path) -> None:
    with pytest.raises(DiskError) as error, disk_errors(tmp_path / "folder"):
        (tmp_path / "no" / "folder").mkdir()
    assert str(error.value) == f"{tmp_path / 'folder'}: cannot be written: No such file or directory"
