import math

import pytest

from fipo.doctor.findings import CannotTell
from fipo.doctor.run.history import History, Series
from fipo.errors import UserError
from fipo.telemetry.run_directory import RunDirectory


def test_a_series_knows_which_steps_have_it(history):
    sparse = history(lambda step, _: {"policy/entropy": None} if step % 2 else {}, steps=6)
    assert sparse.series("policy/entropy").steps == [2, 4, 6]


def test_the_evaluation_of_the_base_is_no_training_step(history):
    assert history(steps=3).series("update/skipped").steps == [1, 2, 3]
    assert [line["step"] for line in history().evaluations] == [0, 25, 50]


def test_a_key_that_no_step_has_is_named(history):
    with pytest.raises(CannotTell, match="policy/nothing is not recorded"):
        history().summed(["policy/entropy", "policy/nothing"])


def test_a_run_without_steps_has_too_few_of_everything(history):
    with pytest.raises(CannotTell, match="0 of the 10 steps"):
        history(steps=0).series("policy/entropy", least=10)


def test_a_value_that_is_not_finite_is_as_if_it_were_not_there(make_run):
    run = make_run()
    with_nan = History(run, [{"step": 1, "policy/entropy": math.nan}, {"step": 2, "policy/entropy": 0.5}])
    assert with_nan.series("policy/entropy").values == [0.5]


@pytest.mark.parametrize("line", [[1], {"reward/mean": 1.0}])
def test_a_line_that_is_of_no_step_is_refused_with_its_number(line, make_run):
    run = make_run()
    with pytest.raises(UserError, match=r"metrics.jsonl, line 2: must be an object with a step, got "):
        History(run, [{"step": 0}, line])


def test_a_collected_run_has_no_planned_steps(tmp_path):
    run = RunDirectory(tmp_path / "verl")
    run.create({"run": {"name": "verl"}, "verl": {"metrics": ["log.jsonl"]}})
    assert History(run, []).planned_steps is None


SERIES = Series("x", [1, 2, 3, 5, 6], [1.0, 9.0, 2.0, 8.0, 7.0])


def test_a_trailing_median_begins_where_it_has_enough_values():
    assert SERIES.trailing(3) == Series("x", [3, 5, 6], [2.0, 8.0, 7.0])


def test_since_is_the_last_unbroken_stretch():
    assert SERIES.since(lambda value: value > 5) == (5, 6)
    assert SERIES.since(lambda value: value < 5) is None


def test_from_step_includes_it():
    assert SERIES.from_step(4).steps == [5, 6]
    assert SERIES.from_step(7).values == []
