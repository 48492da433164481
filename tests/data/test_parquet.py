import pickle
import random

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from tests.data.helpers import Canary, dapo_row, only_columns, read, refusal, write_parquet

from fipo.data.bad_rows import BadRows
from fipo.data.files import read_rows
from fipo.data.parquet import BATCH
from fipo.errors import UserError

FUZZ = settings(derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


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
