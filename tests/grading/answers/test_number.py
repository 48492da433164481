from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fipo.data.problem import Problem
from fipo.grading.answers.number import grade_number


def problem(answer):
    return Problem(id="test/1", prompt="?", answer=answer, source="test")


# response, answer of the problem, what is read, outcome
NUMBERS = [
    ("12-7=5;5+30=35#35", "35", "35", "correct"),
    ("#-4", "-4", "-4", "correct"),
    ("#-4", "4", "-4", "wrong"),
    ("35 or rather 36", "35", "36", "wrong"),
    ("", "35", None, "no_answer"),
    ("no idea", "35", None, "no_answer"),
    ("#", "35", None, "no_answer"),
    ("12.50", "12.5", "12.5", "correct"),
    ("1,000", "1000", "1000", "correct"),
    ("-1,234,567.50", "-1234567.5", "-1234567.5", "correct"),
    ("1,2,3", "3", "3", "correct"),  # a list, not a number
    ("1000,200", "200", "200", "correct"),
    ("(0,-3)", "-3", "-3", "correct"),
    ("\u22123", "-3", "-3", "correct"),  # MINUS SIGN
    ("\u22123", "3", "-3", "wrong"),
    ("5\u22123", "3", "3", "correct"),
    ("12,3456", "3456", "3456", "correct"),
    ("007", "7", "7", "correct"),
    ("-0", "0", "0", "correct"),
    ("-0.00", "0", "0", "correct"),
    ("5-3", "3", "3", "correct"),  # the minus belongs to the sum, not to 3
    ("(2)-3", "3", "3", "correct"),
    ("x-3", "3", "3", "correct"),
    ("x = -3", "-3", "-3", "correct"),
    ("\\boxed{-3}", "-3", "-3", "correct"),
    ("$1,000$.", "1000", "1000", "correct"),
    ("The answer is 7.", "7", "7", "correct"),
    ("10%", "10", "10", "correct"),
    ("3.14.15", "3.14", "3.14", "correct"),  # a version, not another number
    ("\u0663", "3", None, "no_answer"),  # ARABIC-INDIC DIGIT THREE
    ("\uff13", "3", None, "no_answer"),  # FULLWIDTH DIGIT THREE
    ("\u00b2", "2", None, "no_answer"),  # SUPERSCRIPT TWO
    ("3\x00\x1b[J\x07", "3", "3", "correct"),
    ("5\ud800", "5", "5", "correct"),
    ("1" * 40, "1" * 39 + "2", "1" * 40, "wrong"),  # no rounding of long numbers
    ("0." + "3" * 30 + "1", "0." + "3" * 30 + "2", "0." + "3" * 30 + "1", "wrong"),
    ("9**9**9**9", "9", "9", "correct"),  # read, not computed
]


@pytest.mark.parametrize(("response", "answer", "read", "outcome"), NUMBERS)
def test_the_number_grader_compares_the_last_number_by_value(response, answer, read, outcome):
    grade = grade_number(response, problem(answer))
    assert (grade.answer, grade.outcome) == (read, outcome)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(
    value=st.decimals(-(10**15), 10**15, places=4),
    separator=st.sampled_from(["", ","]),
    zeros=st.integers(0, 3),
    before=st.sampled_from(["", "#", "1 + 2 = ", "so 5, ", "Answer: ", "= "]),
)
def test_a_number_is_right_however_it_is_written(value, separator, zeros, before):
    text = before + f"{value:{separator}f}" + "0" * zeros
    assert grade_number(text, problem(str(value))).correct
    assert not grade_number(text, problem(str(value + Decimal("0.0001")))).correct
