import json

import pytest
from tests.report.rollouts import group

from fipo.errors import UserError
from fipo.report.credit_sample import sample_rollouts
from fipo.telemetry.run_directory import RunDirectory


def a_run(path, steps, groups=2, mini_batches=2):
    run = RunDirectory(path)
    run.create({"run": {"name": "first"}})
    for step in range(1, steps + 1):
        records = [one for g in range(groups) for one in group(step, f"sums/{g}", mini_batch=g % mini_batches)]
        run.write_rollouts(step, records)
    return run


def bytes_of(records):
    """What the lines of these records take."""
    return sum(len(json.dumps(record, ensure_ascii=False)) for record in records)


def test_a_run_within_the_budget_is_taken_whole_and_in_order(tmp_path):
    run = a_run(tmp_path, steps=3)
    sample = sample_rollouts(run, budget=10**6)
    assert list(sample.steps) == [1, 2, 3]
    assert (sample.rollouts, sample.recorded_rollouts, sample.recorded_steps) == (12, 12, 3)
    for step, groups in sample.steps.items():
        assert [record for one in groups for record in one] == run.read_rollouts(step)
        assert [len(one) for one in groups] == [2, 2]


@pytest.mark.parametrize("budget", [3_000, 10_000, 30_000, 60_000])
def test_groups_are_whole_and_within_the_budget(budget, tmp_path):
    run = a_run(tmp_path, steps=20, groups=4)
    sample = sample_rollouts(run, budget)
    groups = [one for groups in sample.steps.values() for one in groups]
    assert groups and all([record["advantage"] for record in one] == [1.0, -1.0] for one in groups)
    assert all(len({record["problem"] for record in one}) == 1 for one in groups)
    taken = sum(bytes_of(one) for one in groups)
    largest = max(bytes_of(one) for one in groups)
    assert budget - 4 * largest < taken <= budget
    assert sample.rollouts == 2 * len(groups)
    assert (sample.recorded_rollouts, sample.recorded_steps) == (160, 20)


def test_each_step_gives_an_equal_share(tmp_path):
    run = a_run(tmp_path, steps=20, groups=4)
    one_group = bytes_of(run.read_rollouts(10)[:2])
    sample = sample_rollouts(run, budget=int(20 * 2.5 * one_group))
    assert len(sample.steps) == 20
    assert {len(groups) for groups in sample.steps.values()} == {2, 3}  # what a step leaves goes to later ones


def test_groups_larger_than_a_share_leave_out_steps_evenly(tmp_path):
    run = a_run(tmp_path, steps=32, groups=1, mini_batches=1)
    one_group = bytes_of(run.read_rollouts(32))
    sample = sample_rollouts(run, budget=int(8.5 * one_group))
    assert list(sample.steps) == [4, 8, 12, 16, 20, 24, 28, 32]


def test_a_small_share_goes_to_the_last_mini_batch(tmp_path):
    run = a_run(tmp_path, steps=4, groups=6, mini_batches=3)
    one_group = bytes_of(run.read_rollouts(4)[:2])
    sample = sample_rollouts(run, budget=int(4 * 2.2 * one_group))
    mini_batches = [[one[0]["mini_batch"] for one in groups] for groups in sample.steps.values()]
    assert mini_batches == [[1, 2]] * 4


def test_a_half_written_line_is_left_out(tmp_path):
    run = a_run(tmp_path, steps=1)
    path = run.rollout_files()[1]
    path.write_bytes(path.read_bytes() + b'{"step": 1, "pro')
    assert sample_rollouts(run, budget=10**6).rollouts == 4


def test_a_run_without_rollouts_has_an_empty_sample(tmp_path):
    sample = sample_rollouts(RunDirectory(tmp_path / "none"), budget=10**6)
    assert (sample.steps, sample.rollouts, sample.recorded_rollouts, sample.recorded_steps) == ({}, 0, 0, 0)


def test_numbers_that_are_not_finite_are_none(tmp_path):
    run = a_run(tmp_path, steps=1)
    run.write_rollouts(1, group(1, log_ratios={1.0: [0.5]}, advantage=float("nan"), log_ratio=[float("inf")]))
    record = sample_rollouts(run, budget=10**6).steps[1][0][0]
    assert record["advantage"] is None and record["log_ratio"] == [None]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "damaged: Expecting property name"),
        ("[1]", "not a rollout: must be a JSON object, got [1]"),
        ('{"response": 3}', "not a rollout: response must be text, got 3"),
        ('{"response": "", "problem": 3}', "not a rollout: problem must be text, got 3"),
        ('{"response": "", "prompt": null}', "not a rollout: prompt must be text, got None"),
        ('{"response": "", "tokens": [3]}', "not a rollout: tokens must be a list of texts, got [3]"),
        (
            '{"response": "", "tokens": ["a"], "future_kl": ["b"]}',
            "not a rollout: future_kl must be a list of finite numbers, got ['b']",
        ),
        (
            '{"response": "", "tokens": ["a"], "log_ratio": [1, 2]}',
            "not a rollout: log_ratio must have one number for each of the 1 tokens, or none, got 2",
        ),
    ],
)
def test_a_line_that_is_no_rollout_is_named(line, message, tmp_path):
    run = a_run(tmp_path, steps=1)
    path = run.rollout_files()[1]
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError) as error:
        sample_rollouts(run, budget=10**6)
    assert str(error.value).startswith(f"{path}, line 5: {message}")
