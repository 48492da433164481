import inspect

import numpy
import pytest

from fipo.data.problem import Problem
from fipo.grading.function import FunctionGrader
from fipo.grading.grade import Grade
from fipo.grading.outcomes import reward_of

PROBLEM = Problem(id="1", prompt="2+2=", answer="4", source="test", metadata={"level": 3, "task": "sums"})
CHAT = Problem(id="1", prompt=[{"role": "user", "content": "2+2="}], answer="4", source="test")


def graded(function, response="4", problem=PROBLEM):
    return FunctionGrader("mine:function", function)(response, problem)


@pytest.mark.parametrize(
    ("returned", "outcome", "reward"),
    [
        (True, "correct", 1.0),
        (False, "wrong", -1.0),
        (1.0, "correct", 1.0),
        (0.0, "wrong", 0.0),
        (0.3, "wrong", 0.3),
        (2, "correct", 2.0),
        (-4, "wrong", -4.0),
        (numpy.bool_(True), "correct", 1.0),
        (numpy.float32(0.5), "wrong", 0.5),
        (numpy.array(1), "correct", 1.0),
        (Grade(outcome="no_answer", answer=None), "no_answer", -1.0),
        (Grade(outcome="correct", answer="4", score=0.7), "correct", 0.7),
    ],
)
def test_a_bool_is_right_or_wrong_and_a_number_is_the_reward(returned, outcome, reward):
    grade = graded(lambda response, problem: returned)
    assert (grade.outcome, reward_of(grade)) == (outcome, reward)


@pytest.mark.parametrize("returned", [None, "4", [1.0], {}, float("nan"), float("inf")])
def test_anything_else_is_refused_with_what_came_back(returned):
    with pytest.raises((TypeError, ValueError), match="grader 'mine:function' must return a "):
        graded(lambda response, problem: returned)


def test_a_grade_without_a_finite_score_is_refused():
    with pytest.raises(ValueError, match="the score of a Grade must be a finite number or None, got nan"):
        Grade(outcome="correct", answer=None, score=float("nan"))


def test_a_function_of_trl_is_told_by_its_parameter_and_gets_columns_by_name():
    def exact(completions, answer, **columns):
        assert columns == {"prompts": ["2+2="], "level": [3], "task": ["sums"]}
        return [1.0 if said == right else 0.0 for said, right in zip(completions, answer, strict=True)]

    assert reward_of(graded(exact, "4")) == 1.0
    assert reward_of(graded(exact, "5")) == 0.0


def test_a_function_of_trl_gets_those_columns_alone_that_it_names():
    def levels(completions, level):
        return numpy.array([level[0] / 10])

    assert reward_of(graded(levels)) == 0.3


def test_a_function_of_trl_gets_messages_where_the_prompt_is_messages():
    def roles(prompts, completions):
        return [1.0 if completions[0] == [{"role": "assistant", "content": "4"}] and prompts[0] == CHAT.prompt else 0.0]

    assert graded(roles, problem=CHAT).correct


def test_what_is_none_of_a_function_of_trls_business_adds_nothing():
    assert graded(lambda completions: [None]).score == 0.0


def test_a_column_that_is_not_there_is_named_with_where_to_name_it():
    def wants(completions, solution, threshold=0.5):
        return [1.0]

    with pytest.raises(TypeError) as refused:
        graded(wants)
    assert str(refused.value) == (
        "grader 'mine:function' needs the column 'solution', and the problem has level, task, answer: "
        'name it in the columns of the source, solution = "..."'
    )


@pytest.mark.parametrize("returned", [0.5, [], [0.1, 0.2], ["1"]])
def test_a_function_of_trl_must_return_a_list_of_one_number_for_each(returned):
    with pytest.raises(TypeError, match="must return a list of "):
        graded(lambda completions: returned)


def test_an_object_that_can_be_called_is_a_function_too():
    class Close:
        def __call__(self, response, problem):
            return response == problem.answer

    assert graded(Close()).correct
    assert inspect.signature(Close()).parameters.keys() == {"response", "problem"}
