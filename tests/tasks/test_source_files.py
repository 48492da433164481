import json

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from fipo.errors import UserError
from fipo.tasks.problem import Problem
from fipo.tasks.sources import File, load_problems, merge_repeats


def dapo_row(number, question="What is 2+2?", answer="4"):
    """A row as DAPO publishes it."""
    return {
        "data_source": "math_dapo",
        "prompt": [{"content": question, "role": "user"}],
        "ability": "MATH",
        "reward_model": {"ground_truth": answer, "style": "rule-lighteval/MATH_v2"},
        "extra_info": {"index": f"id-{number}"},
    }


def write_jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_parquet(path, rows):
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


WRITERS = {"jsonl": write_jsonl, "parquet": write_parquet}


def read(path):
    return load_problems(File(source="file", path=str(path)), "train", seed=0)


def refusal(path):
    """The one line with which a file is refused."""
    with pytest.raises(UserError) as error:
        read(path)
    message = str(error.value)
    assert "\n" not in message
    assert str(path) in message
    return message.removeprefix(str(path))


@pytest.mark.parametrize("kind", WRITERS)
def test_a_file_in_the_published_schema_becomes_problems_in_its_order(kind, tmp_path):
    path = tmp_path / f"data.{kind}"
    WRITERS[kind](path, [dapo_row(1, "What is 2+2?", "4"), dapo_row(2, "Und 3²? ∑\u2028", "9")])
    assert read(path) == [
        Problem(
            id="math_dapo/id-1",
            prompt=[{"role": "user", "content": "What is 2+2?"}],
            answer="4",
            source="math_dapo",
        ),
        Problem(
            id="math_dapo/id-2",
            prompt=[{"role": "user", "content": "Und 3²? ∑\u2028"}],
            answer="9",
            source="math_dapo",
        ),
    ]


@pytest.mark.parametrize("kind", WRITERS)
def test_a_row_needs_no_more_than_a_text_prompt_and_an_answer(kind, tmp_path):
    path = tmp_path / f"data.{kind}"
    WRITERS[kind](path, [{"prompt": "2+2=", "reward_model": {"ground_truth": 4}, "data_source": None}])
    (problem,) = read(path)
    assert (problem.prompt, problem.answer, problem.source) == ("2+2=", "4", "unnamed")
    assert problem.id.startswith("unnamed/")


def test_a_row_without_an_index_is_named_by_its_question(tmp_path):
    path = tmp_path / "data.jsonl"
    rows = [{"prompt": text, "reward_model": {"ground_truth": "4"}} for text in ("2+2=", "1+3=", "2+2=")]
    write_jsonl(path, rows)
    first, second, again = (problem.id for problem in read(path))
    assert first == again != second


def test_the_index_zero_is_an_index(tmp_path):
    path = tmp_path / "data.jsonl"
    write_jsonl(path, [dapo_row(1) | {"extra_info": {"index": 0}}])
    assert read(path)[0].id == "math_dapo/0"


def test_empty_lines_are_skipped_and_still_counted(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text(f"\n{json.dumps(dapo_row(1))}\r\n  \n{{}}\n")
    assert refusal(path).startswith(", line 4:")


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(dapo_row(1)).encode())
    assert read(path)[0].id == "math_dapo/id-1"


def with_prompt(prompt):
    return dapo_row(2) | {"prompt": prompt}


def with_answer(answer):
    return dapo_row(2) | {"reward_model": {"ground_truth": answer}}


MALFORMED = [
    ([1, 2], "a row must be an object, got list"),
    (7, "a row must be an object, got int"),
    (None, "a row must be an object, got NoneType"),
    ({}, "prompt must be a text or a list of messages, got None"),
    (with_prompt(7), "prompt must be a text or a list of messages, got 7"),
    (with_prompt({"role": "user"}), "prompt must be a text or a list of messages, got {'role': 'user'}"),
    (with_prompt(["2+2="]), "each message of prompt must have a role and a content, got ['2+2=']"),
    (with_prompt([{"role": "user"}]), "each message of prompt must have a role and a content, got [{'role': 'user'}]"),
    (
        with_prompt([{"role": "user", "content": ["2+2="]}]),
        "each message of prompt must have a role and a content, got [{'role': 'user', 'content': ['2+2=']}]",
    ),
    (with_prompt(""), "prompt must not be empty"),
    (with_prompt(" \n"), "prompt must not be empty"),
    (with_prompt([]), "prompt must not be empty"),
    (with_prompt([{"role": "user", "content": ""}]), "prompt must not be empty"),
    (
        {"prompt": "2+2="},
        "reward_model.ground_truth must be a text or a number, got None",
    ),
    (with_answer(None), "reward_model.ground_truth must be a text or a number, got None"),
    (with_answer(True), "reward_model.ground_truth must be a text or a number, got True"),
    (with_answer(["4"]), "reward_model.ground_truth must be a text or a number, got ['4']"),
    (dapo_row(2) | {"reward_model": "4"}, "reward_model.ground_truth must be a text or a number, got None"),
]


@pytest.mark.parametrize(("row", "reason"), MALFORMED, ids=[f"{reason} {i}" for i, (_, reason) in enumerate(MALFORMED)])
def test_a_malformed_line_is_named_with_the_file_the_line_and_the_reason(row, reason, tmp_path):
    path = tmp_path / "data.jsonl"
    write_jsonl(path, [dapo_row(1), row, dapo_row(3)])
    assert refusal(path) == f", line 2: {reason}"


MALFORMED_BYTES = [
    (b'{"prompt": "2+2=", ', "not JSON text: "),
    (b"prompt,answer", "not JSON text: "),
    (b"\x93\x00\xff", "not JSON text: "),
    (b'{"prompt": "\\ud800", "reward_model": {"ground_truth": "4"}}', "not JSON text: "),
    (b'{"prompt": ' + b"9" * 5000 + b"}", "not JSON text: "),
    (b"[" * 100_000, "nested too deeply"),
]


@pytest.mark.parametrize(("line", "reason"), MALFORMED_BYTES, ids=[repr(line[:30]) for line, _ in MALFORMED_BYTES])
def test_a_line_that_cannot_be_read_is_named_with_the_file_and_the_line(line, reason, tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_bytes(json.dumps(dapo_row(1)).encode() + b"\n" + line + b"\n")
    assert refusal(path).startswith(f", line 2: {reason}")


def test_a_long_wrong_value_is_shortened_in_the_message(tmp_path):
    path = tmp_path / "data.jsonl"
    write_jsonl(path, [with_prompt(["x" * 5000])])
    assert len(refusal(path)) < 200


MALFORMED_PARQUET = [
    ({"prompt": None}, "prompt must be a text or a list of messages, got None"),
    ({"prompt": []}, "prompt must not be empty"),
    (
        {"prompt": [{"role": "user", "content": None}]},
        "each message of prompt must have a role and a content, got [{'content': None, 'role': 'user'}]",
    ),
    ({"reward_model": None}, "reward_model.ground_truth must be a text or a number, got None"),
]


@pytest.mark.parametrize(("change", "reason"), MALFORMED_PARQUET)
def test_a_malformed_parquet_row_is_named_with_the_file_the_row_and_the_reason(change, reason, tmp_path):
    path = tmp_path / "data.parquet"
    write_parquet(path, [dapo_row(1), dapo_row(2), dapo_row(3) | change, dapo_row(4)])
    assert refusal(path) == f", row 3: {reason}"


def test_a_row_far_into_a_parquet_file_is_counted_from_its_beginning(tmp_path):
    path = tmp_path / "data.parquet"
    write_parquet(path, [dapo_row(i) for i in range(3000)] + [dapo_row(0) | {"prompt": None}])
    assert refusal(path).startswith(", row 3001: ")


def test_a_parquet_file_with_other_columns_is_refused_at_its_first_row(tmp_path):
    path = tmp_path / "data.parquet"
    write_parquet(path, [{"question": "2+2=", "answer": "4"}])
    assert refusal(path) == ", row 1: prompt must be a text or a list of messages, got None"


@pytest.fixture(scope="module")
def parquet_bytes(tmp_path_factory):
    path = tmp_path_factory.mktemp("parquet") / "whole.parquet"
    write_parquet(path, [dapo_row(i, f"What is {i}+1?", str(i + 1)) for i in range(3)])
    return path.read_bytes()


def test_a_cut_parquet_file_is_refused_in_one_line(parquet_bytes, tmp_path):
    path = tmp_path / "data.parquet"
    for length in (0, 3, len(parquet_bytes) // 2, len(parquet_bytes) - 1):
        path.write_bytes(parquet_bytes[:length])
        assert refusal(path).startswith(": not readable as parquet after row 0: ")


@settings(
    derandomize=True, deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(damage=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_damaged_parquet_file_is_read_or_refused_in_one_line(damage, parquet_bytes, tmp_path):
    damaged = bytearray(parquet_bytes)
    for place, value in damage:
        damaged[int(place * len(damaged))] = value
    path = tmp_path / "data.parquet"
    path.write_bytes(damaged)
    try:
        read(path)
    except UserError as error:
        assert "\n" not in str(error)
        assert str(path) in str(error)


def test_text_that_is_not_utf8_is_refused_in_one_line(tmp_path):
    path = tmp_path / "data.parquet"
    write_parquet(path, [dapo_row(1, "What is 2+2?QQQQ")])
    path.write_bytes(path.read_bytes().replace(b"QQQQ", b"\xff\xfe\xff\xfe"))
    assert refusal(path).startswith(": not readable as parquet after row 0: ")


def test_a_file_that_is_not_there_is_named(tmp_path):
    assert refusal_of(tmp_path / "no.jsonl") == f"data: no such file: {tmp_path / 'no.jsonl'}"
    assert refusal_of(tmp_path) == f"data: no such file: {tmp_path}"


def test_a_file_of_another_kind_is_refused(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("prompt,answer\n")
    assert refusal_of(path) == f"data: a file must end in .jsonl or .parquet, got {path}"


def refusal_of(path):
    with pytest.raises(UserError) as error:
        read(path)
    return str(error.value)


def test_an_empty_file_holds_no_problems(tmp_path):
    path = tmp_path / "data.jsonl"
    path.write_text("\n\n")
    assert read(path) == []


def test_published_files_that_repeat_each_row_are_merged_to_single_problems(tmp_path):
    path = tmp_path / "aime.parquet"
    write_parquet(path, [dapo_row(i, f"What is {i}+1?", str(i + 1)) for i in range(30)] * 32)
    problems = read(path)
    assert len(problems) == 960
    assert merge_repeats(problems) == problems[:30]
