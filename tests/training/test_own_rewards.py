"""Runs whose rewards are the user's own: numbers, a function as TRL has them, several graders, one that is broken."""

import json
from pathlib import Path

import pytest
from tests.training.helpers import run_recipe
from tests.training.test_metrics_doc import Doc

from fipo.errors import UserError
from fipo.telemetry.run_directory import RunDirectory

MODULE = """
def digits(response): return [letter for letter in response if letter.isdigit()]

def near(response, problem):
    found = digits(response)
    return 1 - abs(int(found[0]) - int(problem.answer)) / 10 if found else 0.0

def as_in_trl(completions, answer, **columns):
    return [float(right in digits(said)) for said, right in zip(completions, answer)]

def short(response, problem): return -len(response) / 10
def same(response, problem): return 0.5
def broken(response, problem): return response.upside_down
"""


@pytest.fixture
def folder(folder: Path) -> Path:
    (folder / "of_mine.py").write_text(MODULE)
    return folder


@pytest.fixture
def doc(repository: Path) -> Doc:
    return Doc((repository / "docs" / "metrics.md").read_text())


def test_a_number_is_the_reward_and_groups_are_kept_in_which_it_varies(folder: Path, doc: Doc) -> None:
    run = run_recipe(folder, "run", data__grader="of_mine:near", run__steps="2")
    base, plain, evaluated = run.read_metrics()
    assert 0 < plain["reward/mean"] < 1 and plain["accuracy/mean"] < plain["reward/mean"]
    assert plain["groups/kept"] == 4 and plain["groups/constant"] < plain["groups/generated"]
    rollouts = run.read_rollouts(1)
    assert {round(10 * rollout["reward"]) for rollout in rollouts} > {0}
    for group in {rollout["problem"] for rollout in rollouts}:
        assert len({rollout["reward"] for rollout in rollouts if rollout["problem"] == group}) > 1
    assert "eval/reward" in base and base["eval/reward"] != evaluated["eval/reward"]
    every = doc.keys("Every training step") | doc.keys("Where the recipe asks for it", when="`update.mini_batches` > 1")
    numbers = doc.keys("Where graders give numbers", when="numbers")
    assert set(evaluated) == every | doc.keys("Steps with an evaluation") | numbers


def test_a_reward_function_of_trl_can_be_named_as_it_is(folder: Path) -> None:
    line = run_recipe(folder, "run", data__grader="of_mine:as_in_trl", run__steps="1").read_metrics()[1]
    assert line["reward/mean"] == pytest.approx(line["accuracy/mean"]) and 0 < line["reward/mean"] < 1


def test_each_of_several_graders_is_a_metric_and_the_reward_is_their_weighted_sum(folder: Path, doc: Doc) -> None:
    graders = '[{ name = "number" }, { name = "of_mine:short", weight = 0.5 }]'
    line = run_recipe(folder, "run", reward__graders=graders, reward__format="0.25", run__steps="2").read_metrics()[2]
    paid = line["grader/number"] + 0.5 * line["grader/short"] + 0.25 * (1 - line["grade/no_answer"])
    assert line["reward/mean"] == pytest.approx(paid)
    assert line["grader/number"] == pytest.approx(2 * line["accuracy/mean"] - 1)
    named = {f"{place}grader/{name}" for place in ("", "eval/") for name in ("number", "short")}
    every = doc.keys("Every training step") | doc.keys("Where the recipe asks for it", when="`update.mini_batches` > 1")
    numbers = doc.keys("Where graders give numbers", when="numbers")
    assert set(line) == every | doc.keys("Steps with an evaluation") | numbers | named


def test_groups_with_one_reward_alone_are_dropped(folder: Path) -> None:
    settings = {"data__grader": "of_mine:same", "rollout__max_generation_batches": "2", "run__steps": "1"}
    line = run_recipe(folder, "run", **settings).read_metrics()[1]
    assert (line["groups/kept"], line["groups/constant"], line["groups/generated"]) == (0, 12, 12)


def test_a_grader_that_fails_on_everything_stops_the_run_which_goes_on_when_it_is_mended(folder: Path) -> None:
    with pytest.raises(UserError, match=r"all of 16 grades failed in the same way: crash \(AttributeError: 'str' obj"):
        run_recipe(folder, "run", data__grader="of_mine:broken", run__steps="1")
    run = RunDirectory(folder / "runs" / "run")
    assert [line["all_failed"] for line in run.read_failures()] == [True] and not run.read_metrics()
    (folder / "of_mine.py").write_text(MODULE.replace("return response.upside_down", "return len(response) / 12"))
    mended = run_recipe(folder, "run", data__grader="of_mine:broken", run__steps="1", resume=True)
    assert mended.read_metrics()[-1]["step"] == 1 and not mended.failed_grades.exists()


def test_what_some_grades_failed_of_is_kept_by_step(folder: Path) -> None:
    (folder / "of_mine.py").write_text("def odd(response, problem): return 1 / (len(response) % 3)\n")
    run = run_recipe(folder, "run", data__grader="of_mine:odd", run__steps="1")
    failures = [json.loads(line) for line in run.failed_grades.read_text().splitlines()]
    assert {line["step"] for line in failures} == {0, 1}
    assert all("crash (ZeroDivisionError: division by zero)" in line["what"] for line in failures)
