import resource
from contextlib import contextmanager
from pathlib import Path

import pytest

from fipo.telemetry.durable import DiskError, append_line, disk_errors, replace_file


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


def test_a_full_disk_is_named_with_the_bytes_needed_and_free(tmp_path: Path) -> None:
    (tmp_path / ".file.tmp").symlink_to("/dev/full")
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


def test_a_line_for_a_full_disk_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "lines").symlink_to("/dev/full")
    with pytest.raises(DiskError, match="No space left on device"):
        append_line(tmp_path / "lines", "x")


def test_an_error_without_a_size_names_the_file_alone(tmp_path: Path) -> None:
    with pytest.raises(DiskError) as error, disk_errors(tmp_path / "folder"):
        (tmp_path / "no" / "folder").mkdir()
    assert str(error.value) == f"{tmp_path / 'folder'}: cannot be written: No such file or directory"
