import json
import os
import pickle
import random
import tracemalloc

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from tests.data.helpers import WRITERS, Canary, dapo_row, write_jsonl, write_parquet

from fipo.data.bad_rows import BadRows
from fipo.data.files import BATCH, name_of, read_rows
from fipo.data.layouts import columns_of
from fipo.errors import UserError

FUZZ = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read(path, budget=1000):
    """(rows by their place, what was said), the path taken off."""
    said = []
    rows = dict(read_rows(path, columns_of, BadRows(budget, said.append)))
    return {where.removeprefix(f"{path}, "): row for where, row in rows.items()}, [
        line.removeprefix(f"{path}, ") for line in said
    ]


def refusal(path, budget=1000):
    """The one line with which a file is refused."""
    with pytest.raises(UserError) as error:
        read(path, budget)
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def only_columns(row):
    return {name: value for name, value in row.items() if name in columns_of(row)}


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


# Parquet


def test_only_the_columns_asked_for_are_read(tmp_path):
    path = tmp_path / "data.parquet"
    write_parquet(path, [dapo_row(1)])
    assert read(path)[0] == {"row 1": only_columns(dapo_row(1))}


def test_a_parquet_file_with_other_columns_is_refused_with_their_names(tmp_path):
    path = tmp_path / "data.parquet"
    write_parquet(path, [{"instruction": "2+2=", "output": "4"}])
    assert refusal(path).startswith(": must have the columns of a known layout (dapo: prompt, reward_model; ")
    assert refusal(path).endswith("), got 'instruction, output'")


def test_a_parquet_text_that_is_not_utf8_costs_its_row_alone(tmp_path):
    path = tmp_path / "data.parquet"
    write_parquet(path, [dapo_row(i, "What is 2+2?" + "QQQQ" * (i == 1030)) for i in range(1050)], compression="none")
    path.write_bytes(path.read_bytes().replace(b"QQQQ", b"\xff\xfe\xff\xfe"))
    rows, (complaint,) = read(path)
    assert complaint.startswith("row 1031: not readable: 'utf-8' codec can't decode byte 0xff in position 12")
    assert len(rows) == 1049
    assert rows["row 1032"] == only_columns(dapo_row(1031))


@pytest.fixture(scope="module")
def parquet_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("parquet") / "whole.parquet"
    write_parquet(path, [dapo_row(i, f"What is {i}+1?", str(i + 1)) for i in range(3)])
    return path.read_bytes()


def test_a_parquet_file_cut_anywhere_is_refused_as_it_has_no_end(parquet_bytes, tmp_path):
    path = tmp_path / "data.parquet"
    for length in {0, 3, *range(1, len(parquet_bytes), 41), len(parquet_bytes) - 1}:
        path.write_bytes(parquet_bytes[:length])
        assert refusal(path).startswith(": not readable as parquet after row 0: ")


def test_a_damaged_page_ends_the_reading_and_the_line_says_how_far_it_went(tmp_path):
    path = tmp_path / "data.parquet"
    rows = [dapo_row(i, f"What is {i}+1?") for i in range(3 * BATCH)]
    write_parquet(path, rows, row_group_size=BATCH, compression="none", write_page_checksum=True)
    content = bytearray(path.read_bytes())
    third = parquet.ParquetFile(path).metadata.row_group(2)
    questions = max((third.column(i) for i in range(third.num_columns)), key=lambda c: c.total_compressed_size)
    content[questions.dictionary_page_offset + questions.total_compressed_size // 2] ^= 1
    path.write_bytes(content)
    assert refusal(path).startswith(f": not readable as parquet after row {2 * BATCH}: ")


@FUZZ
@given(damage=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_parquet_file_is_read_or_refused_in_one_line(damage, parquet_bytes, tmp_path):
    damaged = bytearray(parquet_bytes)
    for place, value in damage:
        damaged[int(place * len(damaged))] = value
    assert_read_or_refused(tmp_path / "data.parquet", damaged)


LAYOUTS = [
    {"compression": "none"},
    {"compression": "zstd", "data_page_version": "2.0"},
    {"use_dictionary": False, "compression": "none", "row_group_size": 7},
    {"use_dictionary": False, "column_encoding": {"data_source": "DELTA_BYTE_ARRAY"}},
]


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_parquet_file_with_any_byte_changed_is_read_or_refused_in_one_line(layout, tmp_path):
    path = tmp_path / "data.parquet"
    write_parquet(path, [dapo_row(i, f"What is {i}+1?") for i in range(20)], **layout)
    whole = path.read_bytes()
    rng = random.Random(0)
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] = rng.choice([0, 1, 127, 128, 255, damaged[place] ^ 1 << rng.randrange(8)])
        assert_read_or_refused(path, damaged)


def assert_read_or_refused(path, content):
    path.write_bytes(content)
    try:
        rows, said = read(path)
    except UserError as error:
        assert "\n" not in str(error)
        assert str(error).startswith(str(path))
    else:
        assert all(isinstance(row, dict) for row in rows.values())
        assert all("\n" not in line for line in said)


def test_a_pickle_in_a_parquet_file_is_not_read(tmp_path):
    canary, path = tmp_path / "canary", tmp_path / "data.parquet"
    content = pickle.dumps(Canary(canary))
    # pyarrow before 14.0.1 unpickled the metadata of such a column when it opened the file (CVE-2023-47248)
    extension = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": content}
    row = {"question": "2+2=", "answer": "4"}
    fields = [pyarrow.field(name, pyarrow.string(), metadata=extension) for name in row]
    schema = pyarrow.schema(fields, metadata={b"pandas": content})
    parquet.write_table(pyarrow.Table.from_pylist([row], schema=schema), path)
    assert read(path)[0] == {"row 1": row}
    assert not canary.exists()
    pickle.loads(content).close()
    assert canary.exists()  # it would have


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


def test_a_float_of_few_bits_is_the_number_that_was_written(tmp_path):
    narrow = pyarrow.array([0.1, 3.0, None], pyarrow.float32())
    half = pyarrow.array([0.5, 0.1, None], pyarrow.float16())
    inside = pyarrow.array([{"x": 0.3}, {"x": None}, None], pyarrow.struct([("x", pyarrow.float32())]))
    parquet.write_table(pyarrow.table({"a": narrow, "b": half, "c": inside}), tmp_path / "data.parquet")
    rows = [row for _, row in read_rows(tmp_path / "data.parquet", lambda names: names, BadRows(0, print))]
    assert rows == [
        {"a": 0.1, "b": 0.5, "c": {"x": 0.3}},
        {"a": 3.0, "b": 0.1, "c": {"x": None}},
        {"a": None, "b": None, "c": None},
    ]


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
