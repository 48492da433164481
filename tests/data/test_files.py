import json
import os
import tracemalloc

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.data.helpers import WRITERS, dapo_row, only_columns, read, refusal, write_jsonl

from fipo.data.bad_rows import BadRows
from fipo.data.files import name_of, read_rows
from fipo.data.layouts import columns_of
from fipo.data.parquet import BATCH

FUZZ = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("kind", WRITERS)
def test_every_row_comes_in_order_with_its_place(kind, tmp_path):
    path = tmp_path / f"data.{kind}"
    rows = [dapo_row(i, f"What is {i}+∑\u2028?") for i in range(BATCH + 5)]
    WRITERS[kind](path, rows)
    found, said = read(path)
    noun = {"jsonl": "line", "parquet": "row"}[kind]
    assert list(found) == [f"{noun} {i + 1}" for i in range(BATCH + 5)]
    assert [only_columns(row) for row in found.values()] == [only_columns(row) for row in rows]
    assert said == []


@pytest.mark.parametrize("kind", WRITERS)
def test_the_extension_may_be_in_capitals(kind, tmp_path):
    path = tmp_path / f"data.{kind.upper()}"
    WRITERS[kind](path, [dapo_row(1)])
    assert len(read(path)[0]) == 1


# Lines


def test_blank_lines_and_carriage_returns_are_skipped_and_still_counted(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'\n{"a": 1}\r\n  \r\n\t\n{"a": 2}')
    assert read(path) == ({"line 2": {"a": 1}, "line 5": {"a": 2}}, [])


def test_a_byte_order_mark_is_no_part_of_a_row(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n\xef\xbb\xbf{"a": 2}\n')  # two files, one after the other
    assert read(path) == ({"line 1": {"a": 1}, "line 2": {"a": 2}}, [])


def test_numbers_that_json_does_not_have_are_read_as_python_writes_them(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text('{"score": NaN, "bound": -Infinity}\n')
    assert repr(read(path)[0]["line 1"]) == "{'score': nan, 'bound': -inf}"


UNREADABLE = [
    (b'{"prompt": "2+2=", ', "not JSON text: "),
    (b"prompt,answer", "not JSON text: Expecting value: line 1 column 1 (char 0)"),
    (b'{"a": 1}{"a": 2}', "not JSON text: Extra data: "),
    (b'{"a": 1}\r{"a": 2}', "not JSON text: Extra data: "),
    (b'{"prompt": "2+2\xff="}', "not UTF-8 text: byte 0xff at position 15"),
    (b'{"prompt": "caf\xc3"}', "not UTF-8 text: byte 0xc3 at position 15"),
    ('{"prompt": "2"}'.encode("utf-16"), "not UTF-8 text: byte 0xff at position 0"),
    (b"\x00\x00\x00", "not JSON text: "),
    (b'{"a": ' + b"9" * 5000 + b"}", "not JSON text: Exceeds the limit (4300 digits)"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"a": ' * 100_000, "nested too deeply"),
    (b'{"a": 1, "b": 2, "a": 1}', "a key must stand once in an object, got 'a' twice"),
    (b'{"b": {"\xc3\xa9": 1, "\\u00e9": 2}}', "a key must stand once in an object, got 'é' twice"),
]


@pytest.mark.parametrize(("line", "reason"), UNREADABLE, ids=[repr(line[:30]) for line, _ in UNREADABLE])
def test_a_line_that_cannot_be_read_costs_itself_and_is_named_with_the_reason(line, reason, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'{"a": 1}\n' + line + b'\n{"a": 3}\n')
    rows, (complaint,) = read(path)
    assert rows == {"line 1": {"a": 1}, "line 3": {"a": 3}}
    assert complaint.startswith(f"line 2: {reason}")
    assert refusal(path, budget=0).startswith(f", line 2: {reason}")


@FUZZ
@given(
    victim=st.integers(0, 4),
    damage=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255).filter(lambda b: b != 10)), max_size=5),
)
def test_damage_in_one_line_costs_no_other_line(victim, damage, tmp_path):
    path = tmp_path / "data.jsonl"
    lines = [json.dumps(dapo_row(i)).encode() for i in range(5)]
    broken = bytearray(lines[victim])
    for place, value in damage:
        broken[place % len(broken)] = value
    path.write_bytes(b"\n".join([*lines[:victim], bytes(broken), *lines[victim + 1 :]]))
    rows, said = read(path)
    for i in set(range(5)) - {victim}:
        assert rows[f"line {i + 1}"] == dapo_row(i)
    assert len(rows) + len(said) == 5 or not broken.strip()


# Other files


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert refusal(tmp_path / "no.jsonl") == ": no such file"


def test_a_folder_is_no_file(tmp_path):
    assert refusal(tmp_path) == ": must be a .jsonl or .parquet file, got a folder"


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "data.jsonl")
    assert refusal(tmp_path / "data.jsonl") == ": must be a regular file"


@pytest.mark.parametrize("name", ["data.csv", "data", "data.json", "data.gz"])
def test_a_file_of_another_kind_is_refused(name, tmp_path):
    (tmp_path / name).write_text("prompt,answer\n")
    assert refusal(tmp_path / name) == ": a data file must end in .jsonl, .jsonl.gz, .jsonl.zst or .parquet"


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_without_permission_is_refused_with_the_reason(kind, tmp_path):
    path = tmp_path / f"data.{kind}"
    WRITERS[kind](path, [dapo_row(1)])
    path.chmod(0)
    assert "Permission denied" in refusal(path)


def test_a_file_that_the_disk_does_not_give_is_refused_with_the_reason(tmp_path):
    path = tmp_path / "data.jsonl"
    path.symlink_to("/proc/self/mem")  # its first byte cannot be read
    assert refusal(path) == ": cannot be read after line 0: Input/output error"


@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_an_empty_file_has_no_rows(content, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(content)
    assert read(path) == ({}, [])


def test_a_file_is_not_held_in_memory(tmp_path):
    path = tmp_path / "data.jsonl"
    write_jsonl(path, [dapo_row(i, "x" * 1000) for i in range(5000)])
    tracemalloc.start()
    for _ in read_rows(path, columns_of, BadRows(0, print)):
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000  # of 6 MB


@pytest.mark.parametrize(("ending", "codec"), [("gz", "gzip"), ("zst", "zstd"), ("GZ", "gzip")])
def test_compressed_lines_are_read_like_others(ending, codec, tmp_path):
    path = tmp_path / f"data.jsonl.{ending}"
    rows = [dapo_row(i) for i in range(2000)]
    with pyarrow.output_stream(str(path), compression=codec) as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows).encode())
    found, said = read(path)
    assert list(found.values()) == rows and said == [] and list(found)[-1] == "line 2000"
    assert name_of(path) == "data"


@pytest.mark.parametrize(("ending", "codec"), [("gz", "gzip"), ("zst", "zstd")])
def test_a_compressed_file_that_is_cut_or_is_none_is_refused(ending, codec, tmp_path):
    path = tmp_path / f"data.jsonl.{ending}"
    with pyarrow.output_stream(str(path), compression=codec) as file:
        file.write(b"".join(json.dumps(dapo_row(i)).encode() + b"\n" for i in range(100)))
    path.write_bytes(path.read_bytes()[:-20])
    assert refusal(path).startswith(": cannot be read after line ")
    path.write_bytes(b"no such thing")
    assert refusal(path).startswith(": cannot be read after line 0: ")
