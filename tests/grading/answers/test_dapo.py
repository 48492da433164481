import pytest

from fipo.grading.answers.dapo import last_answer, normalise

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
