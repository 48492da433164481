import json
import math
from decimal import Decimal

import numpy as np
import pytest

from fipo.data.bad_rows import MalformedRow
from fipo.data.problem import Problem
from fipo.data.row_values import answer_text, check_text, index_of, prompt_of


def test_the_message_names_the_field_and_the_value():
    with pytest.raises(MalformedRow, match=r"^Answer must be a text or a number, got \[4\]$"):
        answer_text([4], "Answer")
    with pytest.raises(MalformedRow, match=r"^id must be a text or a whole number, got 4\.0$"):
        index_of(4.0, "id")


def test_an_answer_is_a_text_as_it_stands_or_a_number_as_written_by_hand():
    assert [answer_text(value, "answer") for value in (" 4 ", 4, 1e22)] == [" 4 ", "4", "1" + "0" * 22]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (204.0, "204"),
        (-0.0, "0"),
        (0.5, "0.5"),
        (Decimal("5.00"), "5"),
        (Decimal("0.10"), "0.10"),
        (np.float64(204), "204"),
        (np.int64(7), "7"),
        (np.float32(0.1), "0.1"),
        (np.float32(204), "204"),
    ],
)
def test_a_whole_number_has_no_point_whatever_its_type(value, text):
    assert answer_text(value, "answer") == text


@pytest.mark.parametrize(
    "value", [None, True, np.bool_(True), math.nan, math.inf, ["204"], {"a": 1}, np.array([1]), "", "nan", " NaN "]
)
def test_anything_else_is_no_answer(value):
    with pytest.raises(MalformedRow, match=r"^answer must "):
        answer_text(value, "answer")


MESSAGES = [{"role": "user", "content": "q?"}]


@pytest.mark.parametrize("text", [json.dumps(MESSAGES), " " + json.dumps(MESSAGES, indent=1)])
def test_json_text_of_messages_is_read_as_messages(text):
    assert prompt_of(text, "prompt") == MESSAGES


@pytest.mark.parametrize("text", ["[1, 2, 3] is sorted by", "[not json", "{1, 2} is what?", "[]", "{}", '[{"a": 1}]'])
def test_a_text_that_only_begins_like_json_is_a_text(text):
    assert prompt_of(text, "prompt") == text


@pytest.mark.parametrize(
    "value", [[{"from": "human", "value": "q?"}], {"role": "user", "content": "q?"}, [{"role": "user"}]]
)
def test_messages_of_another_form_are_refused_also_as_json(value):
    for each in (value, json.dumps(value)):
        with pytest.raises(MalformedRow, match=r"^(each message of )?prompt must "):
            prompt_of(each, "prompt")


def test_an_index_may_be_missing():
    assert [index_of(value, "id") for value in ("2024-I-1", 0, None)] == ["2024-I-1", "0", None]


def test_a_problem_must_ask_something():
    with pytest.raises(MalformedRow, match=r"^prompt must not be empty$"):
        check_text(Problem(id="a", prompt=[{"role": "user", "content": " "}], answer="4", source="a"))
