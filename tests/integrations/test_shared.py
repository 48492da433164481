"""The kit that TRL's and verl's adapters share."""

import datetime
import logging

import numpy as np
import pytest
import torch

from fipo.data.row_values import json_value
from fipo.integrations.shared import FailurePolicy, grader_pool, note_slower_objective, sampler_gap
from fipo.objective import fused, metric_values


def test_whatever_a_row_holds_reaches_a_grader_as_json() -> None:
    row = {
        "index": np.int64(3),
        "list": np.array([1, 2]),
        7: (None, True),
        "tensor": torch.tensor([0.5]),
        "date": datetime.date(2026, 1, 1),
    }
    assert json_value(row) == {
        "index": 3,
        "list": [1, 2],
        "7": [None, True],
        "tensor": [0.5],
        "date": "2026-01-01",
    }


def test_a_process_has_one_pool_for_the_same_grader_and_limits() -> None:
    limits = {"workers": 1, "deadline_seconds": 3.0, "memory_mib": 256}
    pool = grader_pool("number", **limits)
    assert grader_pool("number", **limits) is pool
    assert grader_pool("number", **limits | {"workers": 2}) is not pool
    with pytest.raises(ValueError, match="deadline_seconds must be > 0, got 0"):
        grader_pool("number", **limits | {"deadline_seconds": 0})


def test_too_many_failures_end_the_run_in_the_words_of_our_own_trainer() -> None:
    policy = FailurePolicy("zero", 2)
    policy.count(2)
    with pytest.raises(RuntimeError, match=r"3 grades timed out or crashed, more than grading.max_failures = 2"):
        policy.count(1)
    assert FailurePolicy("drop_group", None).drops_groups and not policy.drops_groups


@pytest.mark.parametrize(
    ("word", "limit", "message"),
    [
        ("skip", None, "on_failure must be zero or drop_group, got 'skip'"),
        ("zero", -1, "max_failures must be a whole number >= 0, got -1"),
        ("zero", True, "max_failures must be a whole number >= 0, got True"),
    ],
)
def test_a_policy_that_is_none_is_refused(word: str, limit: int | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FailurePolicy(word, limit)


def test_the_gap_to_the_sampler_is_over_loss_tokens() -> None:
    old = torch.tensor([[-1.0, -2.0, float("nan")]])
    sampled = torch.tensor([[-1.5, -2.25, 0.0]])
    mask = torch.tensor([[True, True, False]])
    assert metric_values(sampler_gap(old, sampled, mask)) == {
        "rollout/logprob_gap/mean": 0.375,
        "rollout/logprob_gap/max": 0.5,
    }


@pytest.mark.parametrize(
    ("gpu", "obstacle", "expected"),
    [
        (True, "no compiler", ["by torch's operations, which is slower: the objective: no compiler"]),
        (True, None, []),
        (False, "no compiler", []),
    ],
)
def test_a_gpu_on_which_the_kernels_do_not_run_is_noted_in_one_line(
    gpu: bool,
    obstacle: str | None,
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(fused, "obstacle", lambda: obstacle)
    with caplog.at_level(logging.WARNING, logger="fipo"):
        note_slower_objective()
    assert [record.getMessage() for record in caplog.records] == expected
