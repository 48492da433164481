import json
import sys

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from fipo.errors import UserError
from fipo.tasks.problem import Problem
from fipo.tasks.signed_sums import signed_sums
from fipo.tasks.sources import File, ReasoningGym, SignedSums, load_problems, merge_repeats, without


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


def problem(text, answer="4", name=None):
    return Problem(id=name or f"test/{text}", prompt=text, answer=answer, source="test")


def test_repeats_are_merged_at_their_first_place():
    first, second = problem("2+2="), problem("1+3=")
    assert merge_repeats([first, second, problem("2+2="), problem("1+3="), first]) == [first, second]


def test_a_repeat_under_another_name_is_still_a_repeat():
    assert merge_repeats([problem("2+2=", name="a"), problem("2+2=", name="b")]) == [problem("2+2=", name="a")]


def test_a_chat_and_a_text_with_the_same_words_are_one_question():
    chat = Problem(id="chat", prompt=[{"role": "user", "content": "2+2="}], answer="4", source="test")
    assert merge_repeats([chat, problem("2+2=")]) == [chat]


def test_a_question_with_two_answers_is_refused():
    with pytest.raises(UserError) as error:
        merge_repeats([problem("2+2=", "4", "a/1"), problem("1+3="), problem("2+2=", "5", "b/2")])
    assert str(error.value) == "data: a question must have one answer, got '4' (a/1) and '5' (b/2) for '2+2='"


def test_an_id_with_two_questions_is_refused():
    with pytest.raises(UserError) as error:
        merge_repeats([problem("2+2=", name="a/1"), problem("1+3=", name="a/1")])
    assert str(error.value) == "data: an id must name one question, got two for 'a/1'"


def test_published_files_that_repeat_each_row_are_merged_to_single_problems(tmp_path):
    path = tmp_path / "aime.parquet"
    write_parquet(path, [dapo_row(i, f"What is {i}+1?", str(i + 1)) for i in range(30)] * 32)
    problems = read(path)
    assert len(problems) == 960
    assert merge_repeats(problems) == problems[:30]


def test_held_out_questions_leave_training_whatever_their_id():
    kept = problem("1+3=")
    assert without([problem("2+2="), kept, problem("3+1=")], [problem("2+2=", name="other"), problem("3+1=")]) == [kept]


def test_signed_sums_come_by_role_count_and_seed():
    source = SignedSums(source="signed_sums", count=9)
    assert load_problems(source, "train", 3) == signed_sums("train", 9, 3)
    assert load_problems(source, "eval", 3) == signed_sums("eval", 9, 3)


def chain_sum(count=5, task="chain_sum", **options):
    pytest.importorskip("reasoning_gym")
    return ReasoningGym(source="reasoning_gym", task=task, count=count, options=options)


def test_a_reasoning_gym_task_is_found_by_its_name():
    problems = load_problems(chain_sum(), "train", 0)
    assert len(problems) == 5
    for each in problems:
        expression = each.prompt.partition(": ")[2].removesuffix(" =")
        assert eval(expression) == int(each.answer)
        assert each.source == "reasoning_gym/chain_sum"
        assert each.id.startswith("chain_sum/")


def test_reasoning_gym_problems_are_a_function_of_seed_and_role():
    assert load_problems(chain_sum(), "train", 0) == load_problems(chain_sum(), "train", 0)
    assert load_problems(chain_sum(), "train", 0) != load_problems(chain_sum(), "train", 1)
    assert load_problems(chain_sum(), "train", 0) != load_problems(chain_sum(), "eval", 0)


def test_options_reach_the_reasoning_gym_task():
    for each in load_problems(chain_sum(min_terms=7, max_terms=7), "train", 0):
        assert sum(each.prompt.count(sign) for sign in (" + ", " - ")) == 6


@pytest.mark.parametrize(
    ("task", "options", "reason"),
    [
        ("chain_summ", {}, "task 'chain_summ': Dataset 'chain_summ' not registered"),
        ("chain_sum", {"terms": 3}, "task 'chain_sum': ChainSumConfig.__init__() got an unexpected keyword argument"),
        ("chain_sum", {"min_terms": -1}, "task 'chain_sum': min_terms must be positive"),
        ("chain_sum", {"min_terms": "two"}, "task 'chain_sum': "),
    ],
)
def test_what_reasoning_gym_refuses_gives_one_clear_line(task, options, reason):
    with pytest.raises(UserError) as error:
        load_problems(chain_sum(task=task, **options), "train", 0)
    assert str(error.value).startswith(f"data: reasoning_gym refuses {reason}")
    assert "\n" not in str(error.value)


def test_without_the_extra_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)  # what an import finds where it is not installed
    with pytest.raises(UserError) as error:
        load_problems(ReasoningGym(source="reasoning_gym", task="chain_sum", count=5), "train", 0)
    assert str(error.value) == 'data: source "reasoning_gym" needs the extra: pip install "fipo[gym]"'
