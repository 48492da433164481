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
    algorithm,
    fused,
    kl_penalty,
    merge_metrics,
    metric_values,
    policy_loss,
)

CFG = FIPOConfig.release_7b()
OPTIONS = {name: {"aggregation": name, "longest": 32} for name in AGGREGATIONS}
SEEDS = st.integers(0, 10_000)
MASK = torch.tensor([[True, True, True, False]])


def penalised(kl_coef, aggregation="token-mean", **changes):
    """The algorithm of these tests with this coefficient of the penalty."""
    return algorithm("release_7b", kl_coef=kl_coef, aggregation=aggregation, **changes)


def with_reference(inputs, seed=0, scale=0.5):
    """The same batch with a reference that differs by noise."""
    noise = torch.randn(inputs.logprobs.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return dataclasses.replace(inputs, reference_logprobs=inputs.logprobs.detach() + scale * noise)


def oracle(inputs):
    """The k3 estimator in plain Python, one list of values for each row."""
    rows = []
    for lp, ref, mask in zip(
        inputs.logprobs.tolist(), inputs.reference_logprobs.tolist(), inputs.loss_mask.tolist(), strict=True
    ):
        d = [max(-20.0, min(20.0, b - a)) for a, b, m in zip(lp, ref, mask, strict=True) if m]
        rows.append([math.exp(x) - x - 1 for x in d])
    return rows


def flat(rows):
    return [value for row in rows for value in row]


def test_a_hand_worked_row():
    """The reference's over the policy's probability 1, 2 and 1/4; the last token is padding."""
    reference = torch.tensor([[1.0, 2.0, 0.25, math.nan]], dtype=torch.float64).log()
    penalty = kl_penalty(torch.zeros(1, 4, dtype=torch.float64), reference, MASK)
    expected = torch.tensor([[0.0, 1 - math.log(2), math.log(4) - 0.75, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(penalty, expected, rtol=1e-14, atol=0)


@settings(derandomize=True, deadline=None, database=None, max_examples=25)
@given(seed=SEEDS, scale=st.sampled_from([0.01, 1.0, 30.0]))
def test_it_is_the_slow_oracle_and_never_negative(seed, scale, make_inputs):
    inputs = with_reference(make_inputs(seed, rows=3, tokens=8), seed, scale)
    penalty = kl_penalty(inputs.logprobs, inputs.reference_logprobs, inputs.loss_mask).detach()
    assert penalty[inputs.loss_mask].tolist() == pytest.approx(flat(oracle(inputs)), rel=1e-9, abs=1e-15)
    assert float(penalty.min()) >= 0
    assert bool((penalty[~inputs.loss_mask] == 0).all())


def test_its_mean_over_what_the_policy_samples_is_the_divergence():
    generator = torch.Generator().manual_seed(0)
    policy, reference = (torch.randn(5, generator=generator, dtype=torch.float64).log_softmax(0) for _ in range(2))
    tokens = torch.ones(1, 5, dtype=torch.bool)
    k3 = kl_penalty(policy[None], reference[None], tokens)[0]
    expected = (policy.exp() * (policy - reference)).sum()
    torch.testing.assert_close((policy.exp() * k3).sum(), expected, rtol=1e-12, atol=0)


def test_a_small_difference_keeps_its_digits_in_float32():
    """d^2 / 2 = 5e-9: exp(d) - d - 1 would be off by more than that."""
    penalty = kl_penalty(torch.zeros(1, 4), torch.full((1, 4), 1e-4), MASK)
    assert penalty[0, 0].item() == pytest.approx(5e-9, rel=1e-2)


def test_its_gradient_is_one_minus_the_ratio_and_the_numerical_one(make_inputs):
    inputs = with_reference(make_inputs(1, rows=3, tokens=8))
    reference, mask = inputs.reference_logprobs, inputs.loss_mask
    (gradient,) = torch.autograd.grad(kl_penalty(inputs.logprobs, reference, mask).sum(), inputs.logprobs)
    expected = torch.where(mask, 1 - (reference - inputs.logprobs.detach()).exp(), 0.0)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-14)
    assert torch.autograd.gradcheck(lambda x: kl_penalty(x, reference, mask), inputs.logprobs)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["logprobs", "reference_logprobs"])
def test_what_stands_off_the_mask_reaches_neither_value_nor_gradient(name, value, make_inputs, run):
    inputs = with_reference(make_inputs(2))
    spoilt = getattr(inputs, name).detach().masked_fill(~inputs.loss_mask, value)
    (out, gradient), (plain, same) = (
        run(x, penalised(0.3)) for x in (dataclasses.replace(inputs, **{name: spoilt}), inputs)
    )
    assert torch.equal(out.loss, plain.loss)
    assert torch.equal(gradient, same)
    assert out.metrics() == plain.metrics()


def test_a_difference_beyond_20_is_finite_and_has_no_gradient():
    logprobs = torch.tensor([[-90.0, -math.inf, 30.0, 0.0]], requires_grad=True)
    penalty = kl_penalty(logprobs, torch.zeros(1, 4), MASK)
    penalty.sum().backward()
    assert bool(penalty.isfinite().all())
    assert logprobs.grad.tolist() == [[0.0, 0.0, 0.0, 0.0]]


def test_half_precision_is_computed_in_float32():
    x = torch.zeros(1, 4, dtype=torch.bfloat16)
    assert kl_penalty(x, x - 1, MASK).dtype == torch.float32


def expected_penalty(inputs, kept, aggregation):
    rows = [row if keep else [] for row, keep in zip(oracle(inputs), kept, strict=True)]
    count = sum(bool(row) for row in oracle(inputs))
    return {
        "token-mean": sum(map(sum, rows)) / max(1, sum(map(len, rows))),
        "seq-mean-token-mean": sum(sum(row) / len(row) for row in rows if row) / count,
        "seq-mean-token-sum": sum(map(sum, rows)) / count,
        "seq-mean-token-sum-norm": sum(map(sum, rows)) / count / 32,
    }[aggregation]


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_it_is_added_with_the_aggregation_of_the_loss_and_leaves_with_a_dropped_sequence(aggregation, make_inputs, run):
    inputs = with_reference(make_inputs(3, rows=8, spikes=0.15))
    out, gradient = run(inputs, penalised(0.3, aggregation), longest=32)
    plain, before = run(inputs, CFG, **OPTIONS[aggregation])
    kept = out.kept_rows.tolist()
    assert any(kept) and not all(kept)
    expected = 0.3 * expected_penalty(inputs, kept, aggregation)
    assert out.loss.item() - plain.loss.item() == pytest.approx(expected, rel=1e-9)
    assert torch.equal(out.weight, plain.weight)
    moved = (gradient - before).abs().sum(dim=1) > 0
    assert moved.tolist() == kept


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@settings(derandomize=True, deadline=None, database=None, max_examples=15)
@given(seed=SEEDS, cuts=st.lists(st.integers(1, 7), max_size=4))
def test_the_cut_into_micro_batches_changes_nothing(aggregation, seed, cuts, make_inputs, run):
    inputs = with_reference(make_inputs(seed, rows=8, tokens=20, spikes=0.15), seed)
    penalty = penalised(0.3, aggregation)
    whole, gradient = run(inputs, penalty, longest=32)
    parts, weight, summed = [], 0, []
    for start, stop in itertools.pairwise([0, *sorted(set(cuts)), 8]):
        part = LossInputs(**{k: v.detach()[start:stop] for k, v in vars(inputs).items() if v is not None})
        out, one = run(part, penalty, denominator=1.0, longest=32)
        weight += int(out.weight)
        summed.append(one)
        parts.append(out.metrics())
    torch.testing.assert_close(torch.cat(summed) / max(1, weight), gradient, rtol=1e-12, atol=1e-14)
    merged, expected = (metric_values(metrics) for metrics in (merge_metrics(parts), whole.metrics()))
    assert merged["policy/reference_kl"] == pytest.approx(expected["policy/reference_kl"], rel=1e-11)
    assert merged["policy/loss"] == pytest.approx(expected["policy/loss"], rel=1e-11, abs=1e-13)


def test_the_metric_is_its_mean_over_all_loss_tokens_those_of_dropped_sequences_included(make_inputs, run):
    inputs = with_reference(make_inputs(3, rows=8, spikes=0.15))
    out, _ = run(inputs, penalised(0.3))
    values = flat(oracle(inputs))
    assert metric_values(out.metrics())["policy/reference_kl"] == pytest.approx(sum(values) / len(values), rel=1e-12)


def test_a_reference_without_a_coefficient_is_measured_and_changes_no_bit_of_the_loss(make_inputs, run):
    inputs = with_reference(make_inputs(4))
    (out, gradient), (plain, same) = run(inputs, CFG), run(make_inputs(4), CFG)
    assert torch.equal(out.loss, plain.loss)
    assert torch.equal(gradient, same)
    assert metric_values(out.metrics())["policy/reference_kl"] > 0
    assert "policy/reference_kl" not in plain.metrics()


def test_importance_weights_do_not_touch_the_penalty(make_inputs, run):
    inputs = with_reference(make_inputs(5))
    none = dataclasses.replace(inputs, importance_weights=torch.zeros_like(inputs.old_logprobs))
    out, _ = run(none, penalised(1.0, max_dual_clipped_tokens=None))
    assert out.loss.item() == pytest.approx(expected_penalty(inputs, [True] * 6, "token-mean"), rel=1e-12)


def test_the_reference_is_a_constant(make_inputs):
    inputs = make_inputs(6)
    itself = dataclasses.replace(inputs, reference_logprobs=inputs.logprobs * 1.0)
    policy_loss(itself, penalised(1.0)).loss.backward()
    gradient, inputs.logprobs.grad = inputs.logprobs.grad, None
    policy_loss(inputs, CFG).loss.backward()
    assert torch.equal(gradient, inputs.logprobs.grad)


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
def test_a_coefficient_that_does_not_fit_is_refused(value):
    with pytest.raises(ValueError, match="kl_coef must be"):
        penalised(value)


def test_a_coefficient_without_a_reference_is_refused(make_inputs):
    with pytest.raises(ValueError, match=r"kl_coef must be 0 without reference_logprobs, got 0\.1"):
        policy_loss(make_inputs(7), penalised(0.1))


def test_the_kernels_and_the_equations_give_the_same_with_a_penalty(make_inputs, run, run_fused, monkeypatch):
    monkeypatch.setattr(fused, "CHUNK", 16)
    inputs = with_reference(make_inputs(8, rows=3, tokens=20, spikes=0.2))
    single = LossInputs(
        **{
            k: v.detach() if v.dtype == torch.bool else v.detach().float()
            for k, v in vars(inputs).items()
            if v is not None
        }
    )
    (out, gradient), (expected, wanted) = run_fused(single, penalised(0.3)), run(inputs, penalised(0.3))
    assert out.loss.item() == pytest.approx(expected.loss.item(), rel=1e-4)
    torch.testing.assert_close(gradient.double(), wanted, rtol=1e-3, atol=1e-6)
    key = "policy/reference_kl"
    assert metric_values(out.metrics())[key] == pytest.approx(metric_values(expected.metrics())[key], rel=1e-4)
