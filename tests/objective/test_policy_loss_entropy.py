import dataclasses
import math

import pytest
import torch

from fipo.objective import AGGREGATIONS, LossInputs, algorithm, policy_loss


def with_entropies(inputs, seed=0):
    """The same batch with an entropy for each token, NaN off the mask."""
    values = 2 * torch.rand(inputs.logprobs.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values = values.masked_fill(~inputs.loss_mask, math.nan)
    return dataclasses.replace(inputs, entropies=values.requires_grad_())


def rewarding(coef, aggregation="token-mean", preset="release_7b"):
    return algorithm(preset, entropy_coef=coef, aggregation=aggregation)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_the_bonus_is_subtracted_with_the_aggregation_of_the_loss_and_leaves_with_a_dropped_sequence(
    aggregation, make_inputs
):
    inputs = with_entropies(make_inputs(3, rows=8, spikes=0.15))
    out = policy_loss(inputs, rewarding(0.3, aggregation), longest=32)
    plain = policy_loss(inputs, rewarding(0.0, aggregation), longest=32)
    (gradient,) = torch.autograd.grad(out.loss, inputs.entropies)
    assert 0 < out.kept_rows.sum() < 8
    scale = {
        "token-mean": 1 / out.kept.sum().double(),
        "seq-mean-token-mean": 1 / inputs.loss_mask.sum(1, keepdim=True).double() / 8,
        "seq-mean-token-sum": torch.tensor(1 / 8).double(),
        "seq-mean-token-sum-norm": torch.tensor(1 / 8 / 32).double(),
    }[aggregation]
    expected = torch.where(out.kept, -0.3 * scale, 0.0)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=0)
    bonus = (expected * inputs.entropies.detach().nan_to_num(0.0)).sum().item()
    assert out.loss.item() - plain.loss.item() == pytest.approx(bonus, rel=1e-10)
    assert torch.equal(out.weight, plain.weight)


def test_the_log_probs_gradient_is_the_same_with_a_bonus(make_inputs, run):
    inputs = with_entropies(make_inputs(4))
    assert torch.equal(run(inputs, rewarding(0.3))[1], run(inputs, rewarding(0.0))[1])


def test_without_a_coefficient_entropies_are_not_looked_at(make_inputs, run):
    (out, _), (plain, _) = run(with_entropies(make_inputs(4)), rewarding(0.0)), run(make_inputs(4), rewarding(0.0))
    assert torch.equal(out.loss, plain.loss)


def test_importance_weights_do_not_touch_the_bonus(make_inputs):
    inputs = with_entropies(make_inputs(5))
    none = dataclasses.replace(inputs, importance_weights=torch.zeros_like(inputs.old_logprobs))
    out = policy_loss(none, rewarding(1.0, preset="dapo"))
    expected = -inputs.entropies[inputs.loss_mask].mean().item()
    assert out.loss.item() == pytest.approx(expected, rel=1e-12)


def test_a_coefficient_without_entropies_is_refused(make_inputs):
    with pytest.raises(ValueError, match=r"entropy_coef must be 0 without entropies, got 0\.1"):
        policy_loss(make_inputs(7), rewarding(0.1))


def test_the_kernels_and_the_equations_give_the_same_with_a_bonus(make_inputs, run, run_fused):
    inputs = with_entropies(make_inputs(8, rows=2, tokens=16, spikes=0.2))
    single = LossInputs(
        **{
            name: tensor.detach() if tensor.dtype == torch.bool else tensor.detach().float()
            for name, tensor in vars(inputs).items()
            if tensor is not None
        }
    )
    (out, gradient), (expected, wanted) = run_fused(single, rewarding(0.3)), run(inputs, rewarding(0.3))
    assert out.loss.item() == pytest.approx(expected.loss.item(), rel=1e-4)
    torch.testing.assert_close(gradient.double(), wanted, rtol=1e-3, atol=1e-6)
