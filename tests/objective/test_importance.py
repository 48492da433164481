import dataclasses
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fipo.objective import (
    AGGREGATIONS,
    FIPOConfig,
    LossInputs,
    algorithm,
    fused,
    importance_mask,
    importance_metrics,
    importance_weights,
    metric_values,
    policy_loss,
    truncated_importance_weights,
)

CFG = FIPOConfig.release_7b()
OPTIONS = {name: {"aggregation": name, "longest": 32} for name in AGGREGATIONS}
MASK = torch.tensor([[True, True, True, False]])


def weighted(inputs, seed=0, **changes):
    """The same batch with weights between 0 and 2."""
    weights = 2 * torch.rand(inputs.logprobs.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return dataclasses.replace(inputs, importance_weights=weights, **changes)


def test_a_hand_worked_row():
    """Trainer's over sampler's probability 1/2, 1 and 4, cut at 2; the last token is padding."""
    old = torch.tensor([[0.25, 0.5, 0.8, 1.0]], dtype=torch.float64).log()
    rollout = torch.tensor([[0.5, 0.5, 0.2, 0.0]], dtype=torch.float64).log()
    w = truncated_importance_weights(old, rollout, MASK, cap=2.0)
    torch.testing.assert_close(w[MASK], torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64), rtol=1e-14, atol=0)
    assert metric_values(importance_metrics(old, rollout, MASK, cap=2.0)) == pytest.approx(
        {
            "rollout/importance_weight/mean": 3.5 / 3,
            "rollout/importance_weight/max": 2.0,
            "rollout/importance_weight/capped": 1 / 3,
        }
    )


@settings(derandomize=True, deadline=None, database=None, max_examples=25)
@given(seed=st.integers(0, 10_000), cap=st.floats(0.1, 100))
def test_it_is_the_slow_oracle(seed, cap, make_inputs):
    inputs = make_inputs(seed, rows=3, tokens=8, noise=2.0)
    old, rollout, mask = inputs.logprobs.detach(), inputs.old_logprobs, inputs.loss_mask
    w = truncated_importance_weights(old, rollout, mask, cap=cap)
    ratios = []
    for t in mask.nonzero().tolist():
        ratio = math.exp(max(-20.0, min(20.0, float(old[*t]) - float(rollout[*t]))))
        assert float(w[*t]) == pytest.approx(min(ratio, cap), rel=1e-12)
        ratios.append(ratio)
    values = metric_values(importance_metrics(old, rollout, mask, cap=cap))
    assert values["rollout/importance_weight/mean"] == pytest.approx(sum(min(r, cap) for r in ratios) / len(ratios))
    assert values["rollout/importance_weight/max"] == pytest.approx(min(max(ratios), cap))
    assert values["rollout/importance_weight/capped"] == pytest.approx(sum(r > cap for r in ratios) / len(ratios))


def test_a_sampler_that_agrees_gives_weights_of_exactly_1_of_which_none_counts_as_capped(make_inputs):
    inputs = make_inputs(0)
    same = inputs.old_logprobs
    assert bool((truncated_importance_weights(same, same, inputs.loss_mask, cap=1.0) == 1).all())
    assert metric_values(importance_metrics(same, same, inputs.loss_mask, cap=1.0)) == {
        "rollout/importance_weight/mean": 1.0,
        "rollout/importance_weight/max": 1.0,
        "rollout/importance_weight/capped": 0.0,
    }


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_stands_off_the_mask_is_never_read(value):
    old, rollout = torch.zeros(1, 4), torch.tensor([[0.1, 0.2, 0.3, value]])
    assert bool(truncated_importance_weights(old, rollout, MASK, cap=2.0).isfinite().all())
    values = metric_values(importance_metrics(old, rollout, MASK, cap=2.0))
    assert all(map(math.isfinite, values.values()))


def test_a_batch_without_loss_tokens_has_metrics_of_0():
    nothing = importance_metrics(torch.zeros(1, 4), torch.zeros(1, 4), torch.zeros(1, 4, dtype=torch.bool), cap=2.0)
    assert set(metric_values(nothing).values()) == {0.0}


def test_half_precision_is_computed_in_float32():
    x = torch.full((1, 4), -1.2, dtype=torch.bfloat16)
    assert truncated_importance_weights(x, x - 1, MASK, cap=9.0).dtype == torch.float32


def test_no_graph_leads_from_the_weights_to_the_old_logprobs():
    old = torch.zeros(1, 4, requires_grad=True)
    assert not truncated_importance_weights(old, torch.zeros(1, 4), MASK, cap=2.0).requires_grad


@pytest.mark.parametrize("cap", [0, -1.0, math.nan])
def test_a_cap_that_is_not_positive_is_refused(cap):
    with pytest.raises(ValueError, match="cap must be"):
        truncated_importance_weights(torch.zeros(1, 4), torch.zeros(1, 4), MASK, cap=cap)


def test_the_cap_moves_the_weights(make_inputs):
    inputs = make_inputs(1)
    old, rollout = inputs.logprobs.detach(), inputs.old_logprobs
    one, other = (truncated_importance_weights(old, rollout, inputs.loss_mask, cap=cap) for cap in (1.1, 2.0))
    assert bool((one != other).any())


def test_a_weight_multiplies_the_loss_and_the_gradient_of_its_token(make_inputs, run):
    """Responses of one token, so that each one's loss can be had alone."""
    inputs = weighted(make_inputs(2, rows=30, tokens=1, noise=1.0))
    cfg = dataclasses.replace(CFG, max_dual_clipped_tokens=None)
    out, gradient = run(inputs, cfg, denominator=1.0)
    total = 0.0
    for row, weight in enumerate(inputs.importance_weights[:, 0]):
        alone = {name: tensor.detach()[row : row + 1] for name, tensor in vars(inputs).items() if tensor is not None}
        one, slope = run(LossInputs(**alone | {"importance_weights": None}), cfg, denominator=1.0)
        torch.testing.assert_close(gradient[row], weight * slope[0], rtol=1e-12, atol=0)
        total += float(weight * one.loss)
    assert out.loss.item() == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_equal_weights_scale_the_loss_and_change_no_denominator(aggregation, make_inputs, run):
    inputs = make_inputs(3, spikes=0.1)
    halves = dataclasses.replace(inputs, importance_weights=torch.full_like(inputs.old_logprobs, 0.5))
    (out, gradient), (plain, whole) = (run(x, CFG, **OPTIONS[aggregation]) for x in (halves, inputs))
    assert torch.equal(out.loss, plain.loss / 2)
    assert torch.equal(gradient, whole / 2)
    assert torch.equal(out.weight, plain.weight)
    assert torch.equal(out.kept_rows, plain.kept_rows)


def test_weights_of_1_are_no_weights_bit_for_bit(make_inputs, run):
    inputs = make_inputs(4, spikes=0.1)
    ones = dataclasses.replace(inputs, importance_weights=torch.ones_like(inputs.old_logprobs))
    (out, gradient), (plain, same) = run(ones, CFG), run(inputs, CFG)
    assert torch.equal(out.loss, plain.loss)
    assert torch.equal(gradient, same)
    assert out.metrics() == plain.metrics()


def test_the_gradient_with_weights_is_the_numerical_one(make_inputs):
    inputs = weighted(make_inputs(5, rows=4, tokens=10, spikes=0.2))
    f = policy_loss(inputs, CFG).influence_weights

    def loss(logprobs):
        held = dataclasses.replace(inputs, logprobs=logprobs)
        return policy_loss(held, CFG, influence=lambda *_: f).loss

    assert torch.autograd.gradcheck(loss, inputs.logprobs)


def test_weights_are_constants(make_inputs):
    inputs = make_inputs(6)
    attached = inputs.logprobs.exp()
    policy_loss(dataclasses.replace(inputs, importance_weights=attached), CFG).loss.backward()
    gradient, inputs.logprobs.grad = inputs.logprobs.grad, None
    policy_loss(dataclasses.replace(inputs, importance_weights=attached.detach()), CFG).loss.backward()
    assert torch.equal(gradient, inputs.logprobs.grad)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e30])
def test_a_weight_off_the_mask_is_never_read(value, make_inputs, run):
    inputs = weighted(make_inputs(7))
    spoilt = dataclasses.replace(
        inputs, importance_weights=inputs.importance_weights.masked_fill(~inputs.loss_mask, value)
    )
    (out, gradient), (plain, same) = run(spoilt, CFG), run(inputs, CFG)
    assert torch.equal(out.loss, plain.loss)
    assert torch.equal(gradient, same)


def test_with_weights_the_kernels_are_left_alone(make_inputs, run, run_fused, monkeypatch):
    """They know no weights: the equations compute such a batch, also where kernels are there."""
    inputs = weighted(make_inputs(8, rows=2, tokens=12))
    single = LossInputs(
        **{
            k: v.detach() if v.dtype == torch.bool else v.detach().float()
            for k, v in vars(inputs).items()
            if v is not None
        }
    )
    monkeypatch.setattr(fused, "row_losses", lambda *_, **__: pytest.fail("the kernels were called"))
    out, gradient = run_fused(single, CFG)
    expected, wanted = run(inputs, CFG)
    assert out.loss.item() == pytest.approx(expected.loss.item(), rel=1e-5)
    torch.testing.assert_close(gradient.double(), wanted, rtol=1e-4, atol=1e-6)


def ratios(*rows):
    """(old, rollout, mask) of rows of probability ratios; 0 stands for a token off the mask."""
    ratio = torch.tensor(rows, dtype=torch.float64)
    old = torch.where(ratio > 0, ratio.log(), math.nan)
    return old, torch.where(ratio > 0, 0.0, math.nan).to(ratio.dtype), ratio > 0


def test_a_mask_keeps_the_tokens_whose_ratio_is_in_the_band_its_bounds_included():
    old, rollout, mask = ratios([0.5, 0.4, 1.0, 5.0, 5.1, 0.0])
    stay = importance_mask(old, rollout, mask, band=(0.4999999, 5.0000001))
    assert stay.tolist() == [[True, False, True, True, False, False]]


def test_a_mask_of_responses_goes_by_the_geometric_mean_of_their_tokens():
    """(2 x 1/2 x 1) has the mean 1, (4 x 1 x 0.5) 2^(1/3): a wild token alone does not leave, its response does."""
    batch = ratios([2.0, 0.5, 1.0], [4.0, 1.0, 0.5], [1.5, 0.0, 0.0], [0.0, 0.0, 0.0])
    stay = importance_mask(*batch, band=(0.9, 1.2), level="sequence")
    assert stay.tolist() == [[True] * 3, [False] * 3, [False] * 3, [False] * 3]
    assert importance_mask(*batch, band=(0.9, 1.27), level="sequence")[1].all()
    assert importance_mask(*batch, band=(0.9, 1.2)).tolist()[:2] == [[False, False, True], [False, True, False]]


def test_weights_and_mask_work_together():
    batch = ratios([0.25, 1.0, 3.0, 8.0])
    w = {
        "cap": importance_weights(*batch, algorithm("dapo", importance_weight_cap=2.0)),
        "mask": importance_weights(*batch, algorithm("dapo", importance_mask=(0.5, 5.0))),
        "both": importance_weights(*batch, algorithm("dapo", importance_mask=(0.5, 5.0), importance_weight_cap=2.0)),
        "IcePop": importance_weights(*batch, algorithm("dapo", importance_mask=(0.5, 5.0), importance_weight_cap=5.0)),
    }
    expected = {"cap": [0.25, 1, 2, 2], "mask": [0, 1, 1, 0], "both": [0, 1, 2, 0], "IcePop": [0, 1, 3, 0]}
    for name, values in expected.items():
        assert w[name][0].tolist() == pytest.approx(values, rel=1e-12), name
    assert importance_weights(*batch, algorithm("dapo")) is None


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_a_masked_token_gives_no_gradient_and_stays_in_the_denominator(level, make_inputs, run):
    inputs = make_inputs(3)
    noise = torch.randn(inputs.logprobs.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    chosen = algorithm("dapo", importance_mask=(0.8, 1.1), importance_mask_level=level)
    batch = (inputs.old_logprobs, inputs.old_logprobs + 0.3 * noise, inputs.loss_mask)
    stay = importance_mask(*batch, band=(0.8, 1.1), level=level)
    assert 0 < stay.sum() < inputs.loss_mask.sum()
    masked = dataclasses.replace(inputs, importance_weights=importance_weights(*batch, chosen))
    (out, gradient), (plain, whole) = run(masked, chosen), run(inputs, chosen)
    assert out.weight == plain.weight
    torch.testing.assert_close(gradient, torch.where(stay, whole, 0.0), rtol=1e-12, atol=0)
    left_out = metric_values(importance_metrics(*batch, band=(0.8, 1.1), level=level))
    assert left_out == {
        "rollout/importance_mask/left_out": pytest.approx(1 - float(stay.sum() / inputs.loss_mask.sum()))
    }


def test_the_mask_of_a_response_does_not_depend_on_what_it_is_batched_with(make_inputs):
    inputs = make_inputs(4)
    batch = (inputs.logprobs.detach(), inputs.old_logprobs, inputs.loss_mask)
    whole = importance_mask(*batch, band=(0.9, 1.1), level="sequence")
    alone = [importance_mask(*(part[i : i + 1] for part in batch), band=(0.9, 1.1), level="sequence") for i in range(6)]
    assert torch.equal(whole, torch.cat(alone))
