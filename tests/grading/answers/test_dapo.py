import pytest

from fipo.data.problem import Problem
from fipo.grading.answers.dapo import grade_dapo, last_answer, normalise


def problem(answer):
    return Problem(id="test/1", prompt="?", answer=answer, source="test")


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


NORMALISED = {
    "34": "34",
    "x = y = 34": "34",
    "12,345": "12345",
    "(1,2)": "(1,2)",
    "1{,}000": "1000",
    "3.$": "3",
    "The value is $5$ m": "5",
    "25\\text{ and }30": "2530",  # a comma between digits goes, even one that was "and"
    "\\text{m}": "",
    "\\textbf{A}": "A",
    "\\overline{AB}": "AB",
    "\\mbox{A}": "A",
    "5\\mathrm{th}": "5",
    "90^{\\circ}": "90",
    "3\\;4": "34",
    "2 square units": "2",
    "7 points": "7",
    '"yes"': "yes",
    "\\frac34": "\\frac{3}{4}",
    "\\frac{3}{4}": "\\frac{3}{4}",
    "\\sqrt5": "\\sqrt{5}",
    "-5": "-5",
    "": "",
}


@pytest.mark.parametrize(("answer", "expected"), NORMALISED.items())
def test_an_answer_is_normalised_as_the_released_code_does(answer, expected):
    assert normalise(answer) == expected


def test_the_last_answer_line_ends_at_its_line_break():
    assert last_answer("Answer: 1\nAnswer: 2 or 3\nDone.") == "2 or 3"


# fmt: off
UNITS = [
    "square", "ways", "integers", "dollars", "mph", "inches", "hours", "km", "units", "sue", "points", "feet",
    "minutes", "digits", "cents", "degrees", "cm", "gm", "pounds", "meters", "meals", "edges", "students",
    "childrentickets", "multiples", "\\ldots", "\\dots", "\\;", "{,}", "\\text{s}", "\\text{.}", "\\mathrm{th}",
    "^\\circ", "^{\\circ}",
]
# fmt: on


@pytest.mark.parametrize("word", UNITS)
def test_a_unit_or_a_filler_is_left_out(word):
    assert normalise(f"7 {word}") == "7"
