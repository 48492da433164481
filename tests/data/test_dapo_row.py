import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.helpers import dapo_row

from fipo.data.bad_rows import MalformedRow
from fipo.data.dapo_row import to_problem
from fipo.data.problem import Problem
from fipo.grading.answers.number import grade_number


def refusal(row):
    with pytest.raises(MalformedRow) as error:
        to_problem(row)
    assert "\n" not in str(error.value)
    return str(error.value)


def with_prompt(prompt):
    return dapo_row(2) | {"prompt": prompt}


def with_answer(answer):
    return dapo_row(2) | {"reward_model": {"ground_truth": answer}}


def test_a_row_in_the_published_schema_is_a_problem():
    assert to_problem(dapo_row(1, "Und 3²? ∑\u2028", "9")) == Problem(
        id="math_dapo/id-1",
        prompt=[{"role": "user", "content": "Und 3²? ∑\u2028"}],
        answer="9",
        source="math_dapo",
    )


@pytest.mark.parametrize("source", [{}, {"data_source": None}, {"data_source": ""}])
def test_a_row_needs_no_more_than_a_text_prompt_and_an_answer(source):
    problem = to_problem({"prompt": "2+2=", "reward_model": {"ground_truth": "4"}} | source)
    assert (problem.prompt, problem.answer, problem.source) == ("2+2=", "4", "unnamed")
    assert problem.id.startswith("unnamed/")


@pytest.mark.parametrize("extra", [{}, {"extra_info": None}, {"extra_info": {}}, {"extra_info": {"index": None}}])
def test_a_row_without_an_index_is_named_by_its_question(extra):
    first, second, again = (
        to_problem({"prompt": text, "reward_model": {"ground_truth": "4"}} | extra).id
        for text in ("2+2=", "1+3=", "2+2=")
    )
    assert first == again != second


def test_the_index_zero_is_an_index():
    assert to_problem(dapo_row(1) | {"extra_info": {"index": 0}}).id == "math_dapo/0"


def test_fields_outside_the_schema_are_not_looked_at():
    row = dapo_row(1) | {"ability": ["\ud800"], "score": math.nan}
    row["prompt"] = [row["prompt"][0] | {"name": 7}]
    assert to_problem(row) == to_problem(dapo_row(1))


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
    ({"prompt": "2+2="}, "reward_model.ground_truth must be a text or a number, got None"),
    (with_answer(None), "reward_model.ground_truth must be a text or a number, got None"),
    (with_answer(True), "reward_model.ground_truth must be a text or a number, got True"),
    (with_answer(["4"]), "reward_model.ground_truth must be a text or a number, got ['4']"),
    (with_answer(""), "reward_model.ground_truth must not be empty"),
    (with_answer(" "), "reward_model.ground_truth must not be empty"),
    (with_answer(math.nan), "reward_model.ground_truth must be finite, got nan"),
    (with_answer(-math.inf), "reward_model.ground_truth must be finite, got -inf"),
    (dapo_row(2) | {"reward_model": "4"}, "reward_model must be an object, got '4'"),
    (dapo_row(2) | {"data_source": 7}, "data_source must be a text, got 7"),
    (dapo_row(2) | {"extra_info": "id"}, "extra_info must be an object, got 'id'"),
    (dapo_row(2) | {"extra_info": {"index": 1.0}}, "extra_info.index must be a text or a whole number, got 1.0"),
    (dapo_row(2) | {"extra_info": {"index": True}}, "extra_info.index must be a text or a whole number, got True"),
    (with_prompt("\ud800"), r"text must have a UTF-8 form, got the lone surrogate '\ud800'"),
    (
        with_prompt([{"role": "\ud801", "content": "2"}]),
        r"text must have a UTF-8 form, got the lone surrogate '\ud801'",
    ),
    (with_answer("4\udfff"), r"text must have a UTF-8 form, got the lone surrogate '\udfff'"),
    (dapo_row("\ud802"), r"text must have a UTF-8 form, got the lone surrogate '\ud802'"),
    (dapo_row(1) | {"data_source": "\ud803"}, r"text must have a UTF-8 form, got the lone surrogate '\ud803'"),
]


@pytest.mark.parametrize(("row", "reason"), MALFORMED, ids=[f"{reason} {i}" for i, (_, reason) in enumerate(MALFORMED)])
def test_a_malformed_row_is_refused_with_the_rule_and_the_value(row, reason):
    assert refusal(row) == reason


def test_a_long_wrong_value_is_shortened_in_the_message():
    assert len(refusal(with_prompt(["x" * 5000]))) < 200


NUMBERS = [
    (4, "4"),
    (-7, "-7"),
    (10**3000, "1" + "0" * 3000),
    (12.5, "12.5"),
    (4.0, "4"),
    (1e22, "1" + "0" * 22),
    (1e-5, "0.00001"),
    (Decimal("1E+3"), "1000"),
    (Decimal("12.50"), "12.50"),
]


@pytest.mark.parametrize(("number", "written"), NUMBERS, ids=[str(number)[:8] for number, _ in NUMBERS])
def test_a_number_is_an_answer_as_written_by_hand(number, written):
    assert to_problem(with_answer(number)).answer == written


@given(st.floats(-1e30, 1e30).filter(lambda x: x == 0 or abs(x) > 1e-15))
def test_a_number_is_the_right_answer_to_its_own_problem(number):
    problem = to_problem(with_answer(number))
    assert float(problem.answer) == number
    assert grade_number(f"{Decimal(str(number)):f}", problem).correct


NAMES = ["role", "content", "ground_truth", "index"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["prompt", "reward_model", "data_source", "extra_info"]), JSON) | JSON)
def test_any_json_value_is_a_problem_with_a_question_and_an_answer_or_is_refused(row):
    try:
        problem = to_problem(row)
    except MalformedRow as error:
        assert "\n" not in str(error)
    else:
        assert problem.text.strip() and problem.answer.strip()
        f"{problem}".encode()
