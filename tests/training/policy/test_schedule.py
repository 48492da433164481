from itertools import pairwise

import pytest
from tests.training.helpers import run_recipe

from fipo.errors import UserError
from fipo.training.policy.schedule import learning_rate

TEN = {"peak": 2.0, "warmup": 2, "steps": 10, "floor": 0.25}


def rates(schedule: str, **changes: float) -> list[float]:
    return [learning_rate(step, schedule=schedule, **{**TEN, **changes}) for step in range(1, 11)]


def test_a_constant_rate_rises_and_stays() -> None:
    assert rates("constant") == [1.0] + [2.0] * 9
    assert rates("constant", warmup=0) == [2.0] * 10


def test_a_linear_one_falls_in_equal_steps_to_its_floor() -> None:
    found = rates("linear")
    assert found[:2] == [1.0, 2.0]
    assert found[-1] == pytest.approx(0.5)
    falls = [a - b for a, b in pairwise(found[1:])]
    assert falls == pytest.approx([1.5 / 8] * 8)


def test_a_cosine_falls_slowly_fast_and_slowly_to_its_floor() -> None:
    found = rates("cosine")
    assert found[:2] == [1.0, 2.0]
    assert found[5] == pytest.approx((2.0 + 0.5) / 2)
    assert found[-1] == pytest.approx(0.5)
    falls = [a - b for a, b in pairwise(found[1:])]
    assert falls[0] < falls[3] > falls[7] > 0
    assert falls == pytest.approx(falls[::-1])


def test_without_a_floor_the_last_step_has_none() -> None:
    assert rates("linear", floor=0.0)[-1] == pytest.approx(0.0)


def test_a_run_follows_its_schedule_and_resumes_on_it(folder) -> None:
    options = {"update__schedule": "cosine", "run__steps": "3", "update__warmup_steps": "1"}
    run = run_recipe(folder, "run", **options)
    found = [line["update/learning_rate"] for line in run.read_metrics()[1:]]
    peak = found[0]
    assert found == pytest.approx([peak, peak * 0.55, peak * 0.1])
    with pytest.raises(UserError, match=r"--resume needs the recipe that the run began with; run.steps was 3, got 4"):
        run_recipe(folder, "run", resume=True, **{**options, "run__steps": "4"})


def test_a_run_that_is_over_within_its_warm_up_goes_along_it(folder) -> None:
    run = run_recipe(folder, "run", run__steps="2", update__schedule="linear", update__warmup_steps="4")
    low, high = [line["update/learning_rate"] for line in run.read_metrics()[1:]]
    assert high == pytest.approx(2 * low)
