import dataclasses
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fipo.objective import (
    AGGREGATIONS,
    FIPOConfig,
    LossInputs,
    merge_metrics,
    metric_values,
    policy_loss,
)

REPEATABLE = settings(derandomize=True, deadline=None, database=None, max_examples=25)
SEEDS = st.integers(0, 10_000)
OPTIONS = {name: {"aggregation": name, "longest": 32} for name in AGGREGATIONS}
CFG = FIPOConfig.release_7b()


def chosen(inputs, rows):
    return LossInputs(
        logprobs=inputs.logprobs.detach()[rows],
        old_logprobs=inputs.old_logprobs[rows],
        advantages=inputs.advantages[rows],
        loss_mask=inputs.loss_mask[rows],
    )


def padded(inputs, *, left, right, below, value):
    """The same batch inside a larger one whose every other entry is `value`."""

    def grow(x, fill):
        return torch.nn.functional.pad(x.detach(), (left, right, 0, below), value=fill)

    tokenwise = inputs.advantages[:, None].expand_as(inputs.logprobs)
    return LossInputs(
        logprobs=grow(inputs.logprobs, value),
        old_logprobs=grow(inputs.old_logprobs, -value),
        advantages=grow(tokenwise, value),
        loss_mask=grow(inputs.loss_mask, False),
    )


def assert_same_metrics(got, expected):
    got, expected = metric_values(got), metric_values(expected)
    assert list(got) == list(expected)
    for key, value in expected.items():
        assert got[key] == pytest.approx(value, rel=1e-11, abs=1e-12), key


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@REPEATABLE
@given(seed=SEEDS, cuts=st.lists(st.integers(1, 7), max_size=4), order=st.permutations(range(8)))
def test_the_cut_into_micro_batches_changes_nothing(aggregation, seed, cuts, order, make_inputs, run):
    """Sum un-normalised gradients and weights over the parts, divide once: rows in any order, any cut."""
    inputs = make_inputs(seed, rows=8, tokens=20, spikes=0.15)
    whole, gradient = run(inputs, CFG, **OPTIONS[aggregation])
    order = torch.tensor(order)
    bounds = [0, *sorted(set(cuts)), 8]
    total = torch.zeros((), dtype=torch.float64)
    weight = torch.zeros((), dtype=torch.int64)
    summed = torch.zeros_like(gradient)
    parts = []
    for start, stop in itertools.pairwise(bounds):
        rows = order[start:stop]
        out, part = run(chosen(inputs, rows), CFG, denominator=1.0, **OPTIONS[aggregation])
        total, weight = total + out.loss.detach(), weight + out.weight
        summed[rows] = part
        parts.append(out.metrics())
    assert weight == whole.weight
    denominator = weight.clamp(min=1)
    torch.testing.assert_close(total / denominator, whole.loss.detach(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(summed / denominator, gradient, rtol=1e-12, atol=1e-14)
    assert_same_metrics(merge_metrics(parts), whole.metrics())


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("value", [0.0, math.nan, math.inf, -math.inf, 1e30])
def test_padding_changes_nothing_whatever_is_in_it(aggregation, value, make_inputs, run):
    inputs = make_inputs(8, spikes=0.1)
    plain, gradient = run(inputs, CFG, **OPTIONS[aggregation])
    larger = padded(inputs, left=3, right=5, below=2, value=value)
    out, outer = run(larger, CFG, **OPTIONS[aggregation])
    torch.testing.assert_close(out.loss, plain.loss, rtol=1e-12, atol=0)
    torch.testing.assert_close(outer[:6, 3:-5], gradient, rtol=1e-12, atol=1e-16)
    outer[:6, 3:-5] = 0
    assert (outer == 0).all()
    assert_same_metrics(out.metrics(), plain.metrics())


@pytest.mark.parametrize("name", ["logprobs", "old_logprobs"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_holes_in_the_mask_are_never_read(name, value, make_inputs, run):
    inputs = make_inputs(9)
    spoilt = dataclasses.replace(inputs, **{name: getattr(inputs, name).detach().masked_fill(~inputs.loss_mask, value)})
    (plain, gradient), (out, same) = run(inputs, CFG), run(spoilt, CFG)
    assert torch.equal(out.loss, plain.loss)
    assert torch.equal(gradient, same)
    assert out.metrics() == plain.metrics()


def test_the_advantage_of_an_empty_response_is_never_read(make_inputs, run):
    inputs = make_inputs(10)
    empty = dataclasses.replace(inputs, loss_mask=inputs.loss_mask & (torch.arange(6) < 5)[:, None])
    spoilt = dataclasses.replace(empty, advantages=empty.advantages.index_fill(0, torch.tensor([5]), math.nan))
    (plain, gradient), (out, same) = run(empty, CFG), run(spoilt, CFG)
    assert torch.equal(out.loss, plain.loss)
    assert torch.equal(gradient, same)


def test_one_advantage_per_response_is_the_same_as_one_per_token(make_inputs, run):
    inputs = make_inputs(11)
    tokenwise = dataclasses.replace(inputs, advantages=inputs.advantages[:, None].expand(-1, 40).contiguous())
    (plain, gradient), (out, same) = run(inputs, CFG), run(tokenwise, CFG)
    assert torch.equal(out.loss, plain.loss)
    assert torch.equal(gradient, same)


def test_arguments_are_not_changed(make_inputs):
    inputs = make_inputs(12)
    names = ("logprobs", "old_logprobs", "advantages", "loss_mask")
    before = {name: getattr(inputs, name).detach().clone() for name in names}
    policy_loss(inputs, CFG).metrics()
    for name in names:
        assert torch.equal(getattr(inputs, name).detach(), before[name])


def test_bf16_inputs_are_computed_in_float32(make_inputs, run):
    inputs = make_inputs(13)
    low = dataclasses.replace(
        inputs, logprobs=inputs.logprobs.detach().bfloat16(), old_logprobs=inputs.old_logprobs.bfloat16()
    )
    high = dataclasses.replace(low, logprobs=low.logprobs.float(), old_logprobs=low.old_logprobs.float())
    (out, gradient), (expected, wide) = run(low, CFG), run(high, CFG)
    assert out.loss.dtype == out.future_kl.dtype == torch.float32
    assert torch.equal(out.loss, expected.loss)
    assert torch.equal(gradient, wide.bfloat16())
