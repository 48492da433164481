import pytest

from fipo.data.bad_rows import MalformedRow
from fipo.data.problem import Problem
from fipo.data.row_values import answer_text, check_text, index_of


def test_the_message_names_the_field_and_the_value():
    with pytest.raises(MalformedRow, match=r"^Answer must be a text or a number, got \[4\]$"):
        answer_text([4], "Answer")
    with pytest.raises(MalformedRow, match=r"^id must be a text or a whole number, got 4\.0$"):
        index_of(4.0, "id")


def test_an_answer_is_a_text_as_it_stands_or_a_number_as_written_by_hand():
    assert [answer_text(value, "answer") for value in (" 4 ", 4, 1e22)] == [" 4 ", "4", "1" + "0" * 22]


def test_an_index_may_be_missing():
    assert [index_of(value, "id") for value in ("2024-I-1", 0, None)] == ["2024-I-1", "0", None]


def test_a_problem_must_ask_something():
    with pytest.raises(MalformedRow, match=r"^prompt must not be empty$"):
        check_text(Problem(id="a", prompt=[{"role": "user", "content": " "}], answer="4", source="a"))
