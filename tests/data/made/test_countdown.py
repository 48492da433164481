import re

import pytest

from fipo.data.made.countdown import LARGEST_TARGET, countdown, question, split_of
from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.grading.answers.arithmetic import evaluate, integers
from fipo.grading.answers.countdown import grade_countdown


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
