import dataclasses
import math

import pytest
import torch

from fipo.objective import (
    AGGREGATIONS,
    FIPOConfig,
    LossInputs,
    metric_values,
    policy_loss,
)

OPTIONS = {name: {"aggregation": name, "longest": 32} for name in AGGREGATIONS}
CFG = FIPOConfig.release_7b()


def joined(*parts):
    """Rows of several batches below each other."""
    names = ("logprobs", "old_logprobs", "advantages", "loss_mask")
    return LossInputs(**{name: torch.cat([getattr(part, name).detach() for part in parts]) for name in names})


def with_spikes(tokens_above, advantage=-1.0):
    """One response of 10 tokens at ratio 1.1, of which the first `tokens_above` are at ratio 12."""
    ratio = torch.where(torch.arange(10) < tokens_above, 12.0, 1.1).double()[None]
    return LossInputs(
        logprobs=ratio.log(),
        old_logprobs=torch.zeros(1, 10, dtype=torch.float64),
        advantages=torch.tensor([advantage], dtype=torch.float64),
        loss_mask=torch.ones(1, 10, dtype=torch.bool),
    )


@pytest.mark.parametrize(
    ("tokens", "advantage", "kept"), [(0, -1.0, True), (1, -1.0, True), (2, -1.0, False), (2, 1.0, True)]
)
def test_the_filter_drops_a_response_with_two_dual_clipped_tokens(tokens, advantage, kept):
    out = policy_loss(with_spikes(tokens, advantage), FIPOConfig.release_7b())
    assert out.kept.all() == kept
    assert out.kept.any() == kept
    assert policy_loss(with_spikes(tokens, advantage), FIPOConfig.paper_7b()).kept.all()


def test_a_ratio_exactly_at_the_dual_clip_is_not_dual_clipped():
    inputs = with_spikes(0)
    at_two = dataclasses.replace(inputs, logprobs=torch.full_like(inputs.logprobs, math.log(2.0)))
    cfg = dataclasses.replace(CFG, dual_clip=2.0)
    assert (policy_loss(at_two, cfg).ratio == 2.0).all()
    assert not policy_loss(at_two, cfg).dual_clipped.any()


def test_dropped_tokens_leave_the_denominator_of_the_token_mean():
    both = joined(with_spikes(0), with_spikes(2))
    out = policy_loss(both, CFG)
    assert out.weight == 10
    torch.testing.assert_close(out.loss, policy_loss(with_spikes(0), CFG).loss, rtol=1e-12, atol=0)


@pytest.mark.parametrize("aggregation", AGGREGATIONS[1:])
def test_a_dropped_response_stays_in_the_mean_over_responses(aggregation):
    both = joined(with_spikes(0), with_spikes(2))
    out = policy_loss(both, CFG, **OPTIONS[aggregation])
    alone = policy_loss(with_spikes(0), CFG, **OPTIONS[aggregation])
    assert out.weight == 2
    torch.testing.assert_close(out.loss, alone.loss / 2, rtol=1e-12, atol=0)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_the_natural_denominator_is_the_weight(aggregation, make_inputs, run):
    inputs = make_inputs(14)
    out, gradient = run(inputs, CFG, **OPTIONS[aggregation])
    for weight in (out.weight, int(out.weight), float(out.weight)):
        same, same_gradient = run(inputs, CFG, denominator=weight, **OPTIONS[aggregation])
        assert torch.equal(same.loss, out.loss)
        assert torch.equal(same_gradient, gradient)
    doubled, half = run(inputs, CFG, denominator=2.0 * out.weight, **OPTIONS[aggregation])
    assert doubled.loss == out.loss / 2
    assert torch.equal(half, gradient / 2)


def test_the_weight_of_the_token_mean_counts_kept_tokens(make_inputs):
    out = policy_loss(make_inputs(14, spikes=0.2), CFG)
    assert out.weight == out.kept.sum()
    assert out.weight < out.loss_mask.sum()
    assert not out.weight.is_floating_point()


def nothing_at_all():
    empty = torch.zeros(0, 7)
    return LossInputs(logprobs=empty, old_logprobs=empty, advantages=torch.zeros(0), loss_mask=empty.bool())


def no_tokens():
    empty = torch.zeros(3, 0)
    return LossInputs(logprobs=empty, old_logprobs=empty, advantages=torch.ones(3), loss_mask=empty.bool())


def all_masked():
    x = torch.zeros(3, 7)
    return LossInputs(logprobs=x, old_logprobs=x - 1, advantages=torch.ones(3), loss_mask=x.bool())


def all_dropped():
    return joined(with_spikes(2), with_spikes(3))


@pytest.mark.parametrize("batch", [nothing_at_all, no_tokens, all_masked, all_dropped])
@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("denominator", [None, 1.0, torch.tensor(0.0), torch.tensor(0)])
def test_a_batch_without_kept_tokens_has_loss_zero_and_gradient_zero(batch, aggregation, denominator, run):
    out, gradient = run(batch(), CFG, denominator=denominator, **OPTIONS[aggregation])
    assert out.loss.item() == 0.0
    assert (gradient == 0).all()
    assert all(math.isfinite(value) for value in metric_values(out.metrics()).values())
