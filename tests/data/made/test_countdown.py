import re

import pytest

from fipo.data.made.countdown import LARGEST_TARGET, countdown, grade_countdown, question, solves, split_of
from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.grading.answers.arithmetic import evaluate, integers

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


@pytest.mark.parametrize("role", ["train", "eval"])
def test_every_problem_has_the_solution_that_it_gives(role):
    problems = countdown(role, 300, seed=1)
    assert len({problem.text for problem in problems}) == len({problem.id for problem in problems}) == 300
    for problem in problems:
        numbers, target = problem.metadata["numbers"], problem.metadata["target"]
        assert evaluate(problem.answer) == target and sorted(integers(problem.answer)) == numbers
        assert 3 <= len(numbers) <= 4 and all(1 <= number <= 99 for number in numbers)
        assert 1 <= target <= LARGEST_TARGET and target not in numbers
        assert problem.text == question(numbers, target, "instructions")
        assert grade_countdown(f"Answer: {problem.answer}", problem).correct
        assert not grade_countdown(problem.text, problem).correct  # a model that repeats the question


def test_training_and_evaluation_never_share_a_question_whatever_the_seeds():
    train = {problem.text for seed in range(3) for problem in countdown("train", 300, seed, largest=12)}
    held_out = {problem.text for seed in range(3) for problem in countdown("eval", 300, seed, largest=12)}
    assert len(train) > 500 and len(held_out) > 300
    assert not train & held_out


@pytest.mark.parametrize("role", ["train", "eval"])
def test_the_form_of_a_question_does_not_change_its_side(role):
    in_order = countdown(role, 200, 0, largest=12, form="bare", order="solution")
    assert {split_of(problem) for problem in in_order} == {role}
    assert any(integers(problem.text)[:-1] != problem.metadata["numbers"] for problem in in_order)
    for problem in in_order:
        numbers = ", ".join(map(str, integers(problem.answer)))
        assert problem.text == f"Numbers: {numbers}. Target: {problem.metadata['target']}. Answer:"


def test_the_same_seed_gives_the_same_problems_and_another_seed_others():
    assert countdown("train", 50, 7) == countdown("train", 50, 7)
    assert countdown("train", 50, 7) != countdown("train", 50, 8)


def test_fewer_problems_are_a_prefix():
    assert countdown("train", 20, 7) == countdown("train", 50, 7)[:20]


def test_every_knob_moves_something():
    for problem in countdown("train", 100, 0, terms=(5, 5), largest=9, operators=("+", "*")):
        assert len(problem.metadata["numbers"]) == 5 and max(problem.metadata["numbers"]) <= 9
        assert set(re.findall(r"[-+*/]", problem.answer)) <= {"+", "*"}


def test_more_questions_than_there_are_is_refused():
    with pytest.raises(UserError, match=r"data: countdown has too few such questions: got \d+ of 1000"):
        countdown("train", 1000, 0, terms=(2, 2), largest=5, operators=("+",))


def made_of(numbers, target):
    metadata = {"numbers": numbers, "target": target}
    return Problem(id="test", prompt="in whatever form", answer="", source="test", metadata=metadata)


def test_the_split_of_a_question_is_fixed_for_ever():
    splits = [split_of(made_of([1, 2, number], 9)) for number in range(3, 15)]
    assert splits == ["train", "train", "eval"] + ["train"] * 9
