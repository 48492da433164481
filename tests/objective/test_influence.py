import dataclasses
import math

import pytest
import torch

from fipo.objective import (
    FIPOConfig,
    LossInputs,
    bounded_weights,
    fipo_influence,
    influence_kl,
    participating,
    policy_loss,
)
from fipo.study.controls import averaged, past, shuffled

CFG = FIPOConfig.release_7b()


def row(*values):
    return torch.tensor([values], dtype=torch.float64)


def weight(kl, *, ratio=1.0, advantage=1.0, cfg=CFG):
    return bounded_weights(row(kl), row(math.log(ratio)), row(advantage), cfg).item()


def test_masked_tokens_and_ratios_above_the_dual_clip_do_not_participate():
    log_ratio = row(0.1, 0.2, math.log(10.0), math.log(10.1), -5.0)
    mask = torch.tensor([[True, False, True, True, True]])
    assert participating(log_ratio, mask, 10.0).tolist() == [[0.1, 0.0, math.log(10.0), 0.0, -5.0]]
    assert participating(log_ratio, mask, math.inf)[0, 3] == log_ratio[0, 3]


def test_a_token_that_takes_no_part_still_advances_the_distance():
    mask = torch.tensor([[True, False, True]])
    cfg = dataclasses.replace(CFG, half_life=1.0)
    assert influence_kl(row(0.0, 0.0, 1.0), mask, cfg).tolist() == [[0.25, 0.5, 1.0]]


@pytest.mark.parametrize(
    ("kl", "expected"),
    [(0.0, 1.0), (0.1, math.exp(0.1)), (1.0, 1.2), (-1.0, 0.8), (200.0, 1.2), (-2000.0, 0.8)],
)
def test_the_weight_is_the_bounded_exponential(kl, expected):
    assert weight(kl) == pytest.approx(expected, rel=1e-15)


def test_without_bounds_the_weight_stays_in_the_released_range():
    cfg = FIPOConfig(influence_clip=None)
    assert [weight(kl, cfg=cfg) for kl in (-2000.0, 1.0, 3.0)] == [0.0, pytest.approx(math.e), 10.0]


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [(3.1, -1.0, 1.0), (2.9, -1.0, 1.2), (3.1, 1.0, 1.2), (3.1, 0.0, 1.2)],
)
def test_the_safety_rule_needs_a_negative_advantage_and_a_large_ratio(ratio, advantage, expected):
    assert weight(1.0, ratio=ratio, advantage=advantage) == expected


@pytest.mark.parametrize(("floor", "expected"), [(0.8, 0.9), (0.95, 0.95), (1.0, 1.0)])
def test_the_safety_floor_is_080_in_the_release_and_1_in_the_paper(floor, expected):
    cfg = dataclasses.replace(CFG, safety_floor=floor)
    assert weight(math.log(0.9), ratio=5.0, advantage=-1.0, cfg=cfg) == pytest.approx(expected, rel=1e-12)


def test_on_policy_every_weight_is_exactly_one():
    zeros, mask = torch.zeros(3, 50), torch.rand(3, 50, generator=torch.Generator().manual_seed(0)) < 0.8
    for name in ("release_32b", "release_7b", "paper_32b", "paper_7b"):
        f = fipo_influence(zeros, zeros - 1, mask, getattr(FIPOConfig, name)())
        assert torch.equal(f, torch.ones(3, 50))


def test_the_default_influence_is_fipo(make_inputs, run):
    inputs = make_inputs(0)
    (default, gradient), (explicit, same) = run(inputs, CFG), run(inputs, CFG, influence=fipo_influence)
    assert torch.equal(default.loss, explicit.loss)
    assert torch.equal(gradient, same)


def test_a_control_can_average_the_weights_of_a_response(make_inputs, run):
    inputs = make_inputs(1)
    fipo, _ = run(inputs, CFG)
    control, _ = run(inputs, CFG, influence=averaged)
    for i, mask in enumerate(inputs.loss_mask):
        mean = fipo.influence_weights[i][mask].mean()
        torch.testing.assert_close(control.influence_weights[i][mask], mean.expand(int(mask.sum())))
    assert control.loss != fipo.loss


def test_a_control_can_look_into_the_past(make_inputs):
    inputs = make_inputs(2)
    mirrored = LossInputs(
        logprobs=inputs.logprobs.flip(1),
        old_logprobs=inputs.old_logprobs.flip(1),
        advantages=inputs.advantages,
        loss_mask=inputs.loss_mask.flip(1),
    )
    control = policy_loss(inputs, CFG, influence=past)
    assert torch.equal(control.influence_weights.flip(1), policy_loss(mirrored, CFG).influence_weights)
    assert control.loss != policy_loss(inputs, CFG).loss


def test_a_control_can_shuffle_the_weights_of_a_response(make_inputs):
    inputs = make_inputs(3)
    fipo, control = policy_loss(inputs, CFG), policy_loss(inputs, CFG, influence=shuffled)
    for mine, theirs, mask in zip(control.influence_weights, fipo.influence_weights, inputs.loss_mask, strict=True):
        assert torch.equal(mine[mask].sort().values, theirs[mask].sort().values)
    assert control.loss != fipo.loss
    assert torch.equal(control.future_kl, fipo.future_kl)


def test_an_influence_gets_masked_constants_and_no_graph(make_inputs):
    inputs = make_inputs(4)
    seen = {}

    def spy(log_ratio, advantages, loss_mask, cfg):
        seen.update(log_ratio=log_ratio, advantages=advantages, grad=torch.is_grad_enabled(), cfg=cfg)
        return torch.ones_like(log_ratio)

    policy_loss(inputs, CFG, influence=spy)
    assert not seen["grad"]
    assert not seen["log_ratio"].requires_grad
    assert seen["cfg"] is CFG
    for name in ("log_ratio", "advantages"):
        assert seen[name].shape == inputs.logprobs.shape
        assert (seen[name][~inputs.loss_mask] == 0).all()
        assert (seen[name][inputs.loss_mask] != 0).all()


def test_an_influence_may_leave_nan_off_the_mask(make_inputs, run):
    inputs = make_inputs(5)

    def holey(log_ratio, advantages, loss_mask, cfg):
        return fipo_influence(log_ratio, advantages, loss_mask, cfg).masked_fill(~loss_mask, math.nan)

    (out, gradient), (plain, same) = run(inputs, CFG, influence=holey), run(inputs, CFG)
    assert torch.equal(out.loss, plain.loss)
    assert torch.equal(gradient, same)
    assert out.metrics() == plain.metrics()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_weights_of_an_influence_become_constants_of_the_loss_s_dtype(dtype):
    x = torch.zeros(1, 3)
    inputs = LossInputs(
        logprobs=x, old_logprobs=x, advantages=torch.ones(1), loss_mask=torch.ones(1, 3, dtype=torch.bool)
    )
    learned = torch.ones(1, 3, dtype=dtype, requires_grad=True)
    out = policy_loss(inputs, CFG, influence=lambda *_: learned)
    assert out.loss.dtype == torch.float32
    assert not out.loss.requires_grad


def test_an_influence_of_the_wrong_shape_is_refused(make_inputs):
    with pytest.raises(ValueError, match=r"^influence must return weights of shape \[6, 40\], got \[6, 1\]$"):
        policy_loss(make_inputs(6), CFG, influence=lambda log_ratio, *rest: log_ratio[:, :1])
