import pytest

from fipo.data.problem import Problem
from fipo.grading.answers.exact import grade_exact


def problem(answer):
    return Problem(id="test/1", prompt="?", answer=answer, source="test")


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
