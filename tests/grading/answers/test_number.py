from decimal import Decimal, localcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fipo.data.problem import Problem
from fipo.grading.answers.number import grade_number


def problem(answer):
    return Problem(id="test/1", prompt="?", answer=answer, source="test")


# response, answer of the problem, what is read, outcome
NUMBERS = [
    ("-\\$5", "-5", "-5", "correct"),
    ("it costs 1{,}234{,}567", "1234567", "1234567", "correct"),
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
    ("9**9**9**9", "9", None, "no_answer"),  # not computed
    ("-$5", "-5", "-5", "correct"),
    ("$-5", "-5", "-5", "correct"),
    (".5", "0.5", "0.5", "correct"),
    ("-.5", "-0.5", "-0.5", "correct"),
    ("1/2", "0.5", "0.5", "correct"),
    ("1/2", "2", "0.5", "wrong"),
    ("68 / 2", "34", "34", "correct"),
    ("1/3", "3", "1/3", "wrong"),
    ("3 1/2", "3.5", "3.5", "correct"),
    ("4 10/3", "3", None, "no_answer"),  # no mixed number
    ("\\frac{1}{2}", "2", "0.5", "wrong"),
    ("\\frac12", "0.5", "0.5", "correct"),
    ("1e6", "1000000", "1000000", "correct"),
    ("1e6.", "6", "1000000", "wrong"),
    ("3e-4", "0.0003", "0.0003", "correct"),
    ("1.5 \\times 10^3", "1500", "1500", "correct"),
    ("2\u00d710^{-3}", "0.002", "0.002", "correct"),
    ("10^6", "1000000", "1000000", "correct"),
    ("2^{10}", "10", None, "no_answer"),
    ("x^3", "3", None, "no_answer"),
    ("5 m^2", "5", "5", "correct"),
    ("12:30", "30", None, "no_answer"),
    ("12:30", "12", None, "no_answer"),
    ("it is 5 at 12:30", "5", "5", "correct"),
    ("0." + "3" * 60, "0", "0." + "3" * 60, "wrong"),  # not its whole part
    ("9" * 41, "9" * 41, "9" * 41, "correct"),
    ("1" * 1001, "1", None, "no_answer"),
    ("it fell to \u20135", "-5", "-5", "correct"),
    ("from 2\u20133", "3", "3", "correct"),
    ("1.5\u00d710\u2076", "10", "1500000", "wrong"),
    ("5\u00b2", "5", None, "no_answer"),
    ("5 cm\u00b2", "5", "5", "correct"),
    ("10\u207b\u00b3", "0.001", "0.001", "correct"),
    ("1\u00bd", "1.5", "1.5", "correct"),
    ("0x1F", "1", None, "no_answer"),
    ("<think>5</think>6", "6", "6", "correct"),
    ("<think>5", "5", None, "no_answer"),
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
    with localcontext(prec=28):  # reasoning-gym changes the global one
        other = value + Decimal("0.0001")
    assert not grade_number(text, problem(str(other))).correct


@pytest.mark.parametrize("answer", ["35", "-1,234.50", "$18", "50%", "1.5e3", ".5", "5.", "\u22125"])
def test_a_number_is_an_answer(answer):
    assert grade_number.readable(problem(answer)) is None


@pytest.mark.parametrize(
    "answer",
    [
        "1/2",
        "\\frac{1}{2}",
        "2^{10}",
        "10 or 12",
        "5,10",
        "(1,2)",
        "x=5",
        "12:30",
        "--5",
        "0x10",
        "five",
        "2\\pi",
        "5 cm^2",
        "[0,1]",
        "",
    ],
)
def test_what_is_more_or_less_than_a_number_is_none(answer):
    assert grade_number.readable(problem(answer)).startswith('grader "number" needs a number as answer, got ')
