import pytest

from fipo.data.problem import Problem
from fipo.grading.answers.relay import grade_relay


@pytest.mark.parametrize(
    ("response", "outcome", "found"),
    [
        ("4975", "correct", "4975"),
        ("abc4dd9h7a5", "correct", "4975"),
        ("4976", "wrong", "4976"),
        ("497", "wrong", "497"),
        ("49755", "wrong", "49755"),
        ("abc", "no_answer", None),
    ],
)
def test_the_digits_decide_whatever_letters_stand_between_them(response, outcome, found):
    problem = Problem(id="relay", prompt="3741:8=", answer="4975", source="relay")
    grade = grade_relay(response, problem)
    assert (grade.outcome, grade.answer) == (outcome, found)
