"""Several graders with weights, on real workers; a module of the user's beside a recipe."""

from pathlib import Path

import pytest

from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.grading.outcomes import reward_of
from fipo.grading.panel import BrokenGrader, Panel, label
from fipo.grading.table import GradingTable
from fipo.recipe.toml import read_recipe

MODULE = """
def short(response, problem): return -len(response) / 10
def fair(response, problem): return response == problem.answer
def fails_on_long(response, problem): return 1 / (len(response) < 3)
def broken(response, problem): return response.upside_down
"""
PROBLEM = Problem(id="1", prompt="2+2=", answer="4", source="test")


@pytest.fixture
def panel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "of_mine.py").write_text(MODULE)
    (tmp_path / "recipes" / "recipe.toml").write_text("")
    read_recipe(tmp_path / "recipes" / "recipe.toml", {})  # from here on its folder is looked in
    monkeypatch.chdir(tmp_path)
    panels = []

    def make(judge, weights=(), **settings):
        panels.append(Panel(judge, dict(weights), GradingTable(workers=1).pool, **settings))
        return panels[-1]

    yield make
    for one in panels:
        one.close()


def test_one_grader_alone_is_graded_by_as_without_a_panel(panel):
    right, wrong = panel("number").grade([("4", PROBLEM), ("5", PROBLEM)])
    assert (right.score, right.parts, right.answer, reward_of(wrong)) == (None, (), "4", -1.0)


def test_the_reward_is_the_weighted_sum_and_the_judge_says_what_is_right(panel):
    weights = {"number": 1.0, "of_mine:short": 0.5}
    right, wrong = panel("number", weights).grade([("4", PROBLEM), ("15", PROBLEM)])
    assert (right.outcome, right.score, dict(right.parts)) == ("correct", 0.95, {"number": 1.0, "short": -0.1})
    assert (wrong.outcome, wrong.score, dict(wrong.parts)) == ("wrong", -1.1, {"number": -1.0, "short": -0.2})


def test_a_judge_that_is_not_among_those_that_are_paid_for_is_still_the_judge(panel):
    (grade,) = panel("of_mine:fair", {"of_mine:short": 1.0}).grade([("4", PROBLEM)])
    assert (grade.outcome, grade.score, dict(grade.parts)) == ("correct", -0.1, {"short": -0.1})


def test_scale_multiplies_and_the_format_is_paid_for_where_there_is_an_answer(panel):
    grades = panel("number", scale=2.0, format=0.25).grade([("4", PROBLEM), ("5", PROBLEM), ("?", PROBLEM)])
    assert [grade.score for grade in grades] == [2.25, -1.75, -2.0]


def test_a_response_that_one_of_the_graders_fails_on_is_one_that_failed(panel):
    short, long = panel("number", {"number": 1.0, "of_mine:fails_on_long": 1.0}).grade(
        [("4", PROBLEM), ("004", PROBLEM)]
    )
    assert short.score == 2.0
    assert (long.outcome, reward_of(long)) == ("crash", 0.0)
    assert long.reason == "of_mine:fails_on_long: ZeroDivisionError: division by zero"


def test_a_grader_that_fails_on_the_whole_first_batch_is_refused_with_its_error(panel):
    with pytest.raises(BrokenGrader) as refused:
        panel("number", {"number": 1.0, "of_mine:broken": 1.0}, prove=True).grade([("4", PROBLEM)] * 3)
    assert str(refused.value) == (
        "grader 'of_mine:broken': all of 3 grades failed in the same way: "
        "crash (AttributeError: 'str' object has no attribute 'upside_down')"
    )


def test_one_grade_that_did_not_fail_proves_the_grader(panel):
    proven = panel("of_mine:fails_on_long", prove=True)
    assert [grade.failed for grade in proven.grade([("4", PROBLEM), ("004", PROBLEM)])] == [False, True]
    assert proven.grade([("004", PROBLEM)])[0].failed


def test_a_problem_that_one_of_the_graders_cannot_read_is_not_readable(panel):
    asked = [PROBLEM, Problem(id="2", prompt="?", answer="none", source="test")]
    reasons = panel("of_mine:fair", {"of_mine:fair": 1.0, "number": 1.0}).readable(asked)
    assert reasons[0] is None and reasons[1].startswith('grader "number" needs ')


def test_a_module_that_is_nowhere_is_refused_before_anything_is_graded(panel):
    with pytest.raises(UserError, match="grader 'not_there:grade': cannot import 'not_there'"):
        panel("not_there:grade").start()


def test_a_metric_has_the_name_of_the_function():
    assert (label("math"), label("my.rewards:close_enough")) == ("math", "close_enough")
