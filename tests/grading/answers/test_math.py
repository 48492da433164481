import time

import pytest

from fipo.data.problem import Problem
from fipo.grading.answers.math import grade_math

# response, answer of the problem, outcome
RESPONSES = [
    ("So it is \\boxed{\\frac12}.", "0.5", "correct"),
    ("So it is \\boxed{0.5}.", "\\frac{1}{2}", "correct"),
    ("So it is $\\frac{1}{2}$.", "$\\frac{1}{2}$", "correct"),
    ("Answer: \\frac{68}{2}", "34", "correct"),
    ("Answer: 34", "34", "correct"),
    ("The answer is \\boxed{34}. I checked it 5 times.", "34", "correct"),
    ("\\boxed{33}. This is not right as 33 is odd: \\boxed{34}", "34", "correct"),
    ("\\boxed{34}. This is not right as 34 is even: \\boxed{33}", "34", "wrong"),
    ("\\boxed{33} or \\boxed{34}", "34", "wrong"),  # boxes close to each other are one answer, a set
    ("\\boxed{33} and \\boxed{34}", "\\{33, 34\\}", "correct"),
    ("\\boxed{x+1}", "1+x", "correct"),
    ("\\boxed{(x+1)^2}", "x^2+2x+1", "correct"),
    ("\\boxed{\\{1, 2\\}}", "\\{2, 1\\}", "correct"),
    ("\\boxed{\\text{Alice}}", "\\text{Alice}", "correct"),
    ("\\boxed{1,000}", "1000", "correct"),
    ("\\boxed{2\\sqrt{2}}", "\\sqrt{8}", "correct"),
    ("\\boxed{10^{2024}}", "10^{2024}", "correct"),
    ("\\boxed{2^{2^{10}}}", "2^{1024}", "correct"),
    ("\\boxed{3^{100000}}", "3^{100000}", "correct"),  # as text: it is too large to be computed
    ("\\boxed{3^{100000}}", "34", "wrong"),
    ("<answer>34</answer>", "34", "correct"),
    ("<answer>x^2+1</answer>", "1+x^2", "correct"),
    ("<answer>\\boxed{34}</answer>", "34", "correct"),
    ("I think of 34. <answer>35</answer>", "34", "wrong"),
    ("I think of 34. <answer></answer>", "34", "no_answer"),
    ("\\boxed{-34}", "34", "wrong"),
    ("no idea", "34", "no_answer"),
    ("", "34", "no_answer"),
    ("<think>so \\boxed{34}</think>It is \\boxed{35}.", "34", "wrong"),
    ("<think>so \\boxed{34}. But wait", "34", "no_answer"),
    ("\\boxed{34}. Then \\boxed{3", "34", "no_answer"),
    ("\\boxed{()}", "34", "no_answer"),
    ("\\boxed{x`!|\\boxed{34}}", "34", "no_answer"),
    ("\\boxed{34}", "**34**", "correct"),
    ("\\boxed{34}", "#### 34", "correct"),
    ("\\boxed{34}", "<answer>34</answer>", "correct"),
]


def problem(answer):
    return Problem(id="test/1", prompt="?", answer=answer, source="test")


@pytest.mark.parametrize(("response", "answer", "outcome"), RESPONSES)
def test_an_answer_is_right_by_its_value(response, answer, outcome):
    assert grade_math(response, problem(answer)).outcome == outcome


def test_a_box_is_found_wherever_it_stands_and_a_bare_answer_in_the_final_4000_characters():
    assert grade_math("\\boxed{34}" + "." * 100_000, problem("34")).correct
    assert grade_math("Answer: 34\n" + "." * 3980, problem("34")).correct
    assert grade_math("Answer: 34\n" + "." * 4000, problem("34")).outcome == "no_answer"


LARGE = [
    "9^{9^{9^9}}",
    "(10^9)!",
    "\\binom{10^9}{10^8}",
    "\\sum_{n=1}^{10^{10}} n^n",
    "10^{10^{10}}",
    "(2^{9999})^{9999}",
]


@pytest.mark.parametrize("text", LARGE)
def test_a_number_that_is_too_large_is_not_computed(text):
    started = time.process_time()
    assert grade_math(f"\\boxed{{{text}}}", problem("34")).outcome == "wrong"
    assert time.process_time() - started < 2


@pytest.mark.parametrize("answer", ["", "()", "-", "^", "**", "\\\\"])
def test_signs_alone_are_no_answer_of_a_problem(answer):
    assert grade_math.readable(problem(answer)).startswith(
        'grader "math" needs a number, latex or words as answer, got'
    )


def test_a_problem_whose_own_answer_cannot_be_read_is_an_error():
    with pytest.raises(ValueError, match='grader "math" needs a number, latex or words'):
        grade_math("34", problem(""))
