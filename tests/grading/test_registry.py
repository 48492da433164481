import time
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fipo.data.problem import Problem
from fipo.grading.registry import GRADERS, grade_dapo, grade_exact, grade_number


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
    ("9" * 41, "9" * 41, None, "no_answer"),  # too long to be read
    ("9**9**9**9", "9", "9", "correct"),  # read, not computed
    ("five", "five", None, "no_answer"),
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


EXACT = [
    ("yes", "yes", "yes", "correct"),
    ("  yes\n", "yes", "yes", "correct"),
    ("yes", " yes ", "yes", "correct"),
    ("Yes", "yes", "Yes", "wrong"),
    ("yes, I think", "yes", "yes, I think", "wrong"),
    ("7.0", "7", "7.0", "wrong"),
    ("", "yes", None, "no_answer"),
    (" \n\t", "yes", None, "no_answer"),
]


@pytest.mark.parametrize(("response", "answer", "read", "outcome"), EXACT)
def test_the_exact_grader_compares_the_whole_response(response, answer, read, outcome):
    grade = grade_exact(response, problem(answer))
    assert (grade.answer, grade.outcome) == (read, outcome)


DAPO = [
    ("So it is 34.\nAnswer: 34", "34", "34", "correct"),
    ("So it is 34.\nAnswer: 35", "34", "35", "wrong"),
    ("answer : 34", "34", "34", "correct"),
    ("ANSWER:34", "34", "34", "correct"),
    ("Answer:\n34", "34", "34", "correct"),
    ("Answer: 12\nNo, wait.\nAnswer: 34\nThat is all.", "34", "34", "correct"),
    ("Answer: 34\nNo, wait.\nAnswer: 12", "34", "12", "wrong"),
    ("The answer is 34.", "34", None, "no_answer"),
    ("", "34", None, "no_answer"),
    ("Answer:", "34", None, "no_answer"),
    ("Thus \\boxed{34}", "34", None, "no_answer"),  # no fallback to \boxed
    ("Answer: \\boxed{34}", "34", "34", "correct"),
    ("Answer: $34$", "34", "34", "correct"),
    ("Answer: \\$34", "34", "34", "correct"),
    ("Answer: $x = 34$", "34", "34", "correct"),
    ("Answer: 1,000", "1000", "1000", "correct"),
    ("Answer: 34 degrees", "34", "34", "correct"),
    ("Answer: 34^\\circ", "34", "34", "correct"),
    ("Answer: 34\\text{ cm}", "34", "34", "correct"),
    ("Answer: \\text{Alice}", "Alice", "Alice", "correct"),
    ("Answer: an apple", "apple", "apple", "correct"),
    ("Answer: $\\frac12$", "\\frac{1}{2}", "\\frac{1}{2}", "correct"),
    ("Answer: \\sqrt2", "\\sqrt{2}", "\\sqrt{2}", "correct"),
    ("Answer: 0.5", "\\frac{1}{2}", "0.5", "wrong"),  # no symbolic equality
    ("Answer: 042", "42", "042", "wrong"),  # compared as text
    ("Answer: 34.", "34", "34.", "wrong"),
    ("Answer: **34**", "34", "**34**", "wrong"),
    ("Answer: 2+32", "34", "2+32", "wrong"),  # nothing is computed
    ("Answer: \u0663\u0664", "34", "\u0663\u0664", "wrong"),
    ("Answer: 34\x00", "34", "34\x00", "wrong"),
]


@pytest.mark.parametrize(("response", "answer", "read", "outcome"), DAPO)
def test_the_dapo_grader_compares_the_last_answer_line_as_normalised_text(response, answer, read, outcome):
    grade = grade_dapo(response, problem(answer))
    assert (grade.answer, grade.outcome) == (read, outcome)


def test_the_dapo_grader_looks_at_the_final_300_characters_alone():
    line = "Answer: 34\n"
    assert grade_dapo(line + "." * (300 - len(line)), problem("34")).correct
    assert grade_dapo(line + "." * (301 - len(line)), problem("34")).outcome == "no_answer"
    assert grade_dapo("." * 5000 + line, problem("34")).correct


HOSTILE = {
    "a huge number": "1" * 100_000,
    "a huge number with separators": ",111" * 25_000,
    "many numbers": "1 " * 100_000,
    "many commas": "1," * 100_000,
    "dots and digits": "1.1" * 30_000,
    "signs": "-" * 100_000,
    "brackets": "(" * 100_000,
    "spaces after the word": "answer" + " " * 100_000,
    "many answers": "Answer:" * 30_000,
    "dollars": "Answer: " + "$" * 100_000,
    "open braces": "Answer: " + "\\text{" * 20_000,
    "nested boxes": "Answer: " + "\\boxed{" * 40 + "}",
    "control characters": "\x00\x1b\r" * 30_000,
    "lone surrogates": "\ud800" * 100_000,
}


@pytest.mark.parametrize("response", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("grader", GRADERS)
def test_a_hostile_response_is_graded_quickly_and_is_not_correct(grader, response):
    started = time.process_time()
    grade = GRADERS[grader](response, problem("34"))
    assert time.process_time() - started < 2
    assert not grade.correct


@pytest.mark.parametrize("grader", GRADERS)
def test_a_response_that_is_code_is_not_run(grader, tmp_path):
    trace = tmp_path / "trace"
    code = f"__import__('pathlib').Path({str(trace)!r}).touch()"
    for response in (code, f"Answer: {code}", f"\\boxed{{{code}}}"):
        GRADERS[grader](response, problem("34"))
    assert not trace.exists()


NASTY = st.text(
    st.sampled_from("0159-+.,=#$\\{}()[] \n\r\t\x00\u0663\u00b2\u2028\ud800aAnswer:frac sqrt text"), max_size=60
)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(response=NASTY, answer=NASTY, start=st.sampled_from(["", "Answer:"]))
def test_any_text_gets_a_grade_that_agrees_with_itself(response, answer, start):
    for grader in GRADERS.values():
        grade = grader(start + response, problem(answer))
        assert grade.outcome in ("correct", "wrong", "no_answer")
        assert grade.correct == (grade.outcome == "correct")
        assert (grade.answer is None) == (grade.outcome == "no_answer")
