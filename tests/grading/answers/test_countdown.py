import pytest

from fipo.data.problem import Problem
from fipo.grading.answers.countdown import grade_countdown, solves

PROBLEM = Problem(
    id="test/1", prompt="?", answer="(1 + 2 + 3) * 4", source="test", metadata={"numbers": [1, 2, 3, 4], "target": 24}
)

# response, what is read, outcome
RESPONSES = [
    ("Answer: (1+2+3)*4", "(1+2+3)*4", "correct"),
    ("Answer: 4*(3+2+1)", "4*(3+2+1)", "correct"),
    ("Answer: 1*2*3*4", "1*2*3*4", "correct"),  # another way
    ("Answer: (1+2+3)\u00d74", "(1+2+3)\u00d74", "correct"),
    ("Answer: (1+2+3)*4 = 24", "(1+2+3)*4", "correct"),
    ("Answer: (1+2+3)*4=24", "(1+2+3)*4", "correct"),
    ("Answer: `(1+2+3)*4`", "(1+2+3)*4", "correct"),
    ("answer : $(1+2+3)*4$", "(1+2+3)*4", "correct"),
    ("Answer:\n(1+2+3)*4\nDone.", "(1+2+3)*4", "correct"),
    ("Answer: 1+2\nNo.\nAnswer: (1+2+3)*4", "(1+2+3)*4", "correct"),
    ("Answer: (1+2+3)*4\nNo.\nAnswer: 1+2", "1+2", "wrong"),
    ("<think>1+2</think><answer>(1+2+3)*4</answer>", "(1+2+3)*4", "correct"),
    ("<answer>1</answer> <answer>\n(1+2+3)*4 = 24\n</answer>.", "(1+2+3)*4", "correct"),
    ("I try.\n(1+2+3)*4\n\n", "(1+2+3)*4", "correct"),  # the last line that is not empty
    ("Answer: 24", "24", "wrong"),  # the target, from no number
    ("Answer: 6*4", "6*4", "wrong"),  # other numbers
    ("Answer: (1+2+3)*4*1", "(1+2+3)*4*1", "wrong"),  # one of them twice
    ("Answer: 4*3*2", "4*3*2", "wrong"),  # one of them not used
    ("Answer: 1+2+3+4", "1+2+3+4", "wrong"),  # another value
    ("Answer: 12+3*4", "12+3*4", "wrong"),  # digits run together
    ("Answer: 1+2+3+4 = 24", "1+2+3+4", "wrong"),  # what it claims does not count
    ("Answer: 24 = (1+2+3)*4", "24 = (1+2+3)*4", "wrong"),
    ("Answer: 4!/(1+2-3+1)", "4!/(1+2-3+1)", "wrong"),
    ("Answer: (1+2+3)*4 # 5", "(1+2+3)*4 # 5", "wrong"),
    ("Answer: 1**2*24", "1**2*24", "wrong"),
    ("I cannot.", "I cannot.", "wrong"),
    ("", None, "no_answer"),
    (" \n\t\n", None, "no_answer"),
    ("Answer:", None, "no_answer"),
    ("Answer: = 24", None, "no_answer"),
    ("<answer></answer>", None, "no_answer"),
]


@pytest.mark.parametrize(("response", "read", "outcome"), RESPONSES)
def test_an_expression_is_right_by_its_value_and_the_numbers_it_uses(response, read, outcome):
    grade = grade_countdown(response, PROBLEM)
    assert (grade.answer, grade.outcome) == (read, outcome)


def test_numbers_that_occur_twice_are_used_twice():
    assert solves("5+5", [5, 5], 10)
    assert not solves("5*2", [5, 5], 10)
    assert not solves("5+5", [5], 10)
