import dataclasses
import math

import torch

from fipo.objective import (
    FIPOConfig,
    LossInputs,
    policy_loss,
)

CFG = FIPOConfig.release_7b()


def test_the_gradient_is_the_numerical_one_with_the_weights_held(make_inputs):
    inputs = make_inputs(4, rows=4, tokens=10, spikes=0.2)
    for cfg in (CFG, FIPOConfig.dapo(), FIPOConfig.grpo()):
        f = policy_loss(inputs, cfg).influence_weights

        def loss(logprobs, cfg=cfg, f=f):
            held = dataclasses.replace(inputs, logprobs=logprobs)
            return policy_loss(held, cfg, influence=lambda *_: f).loss

        assert torch.autograd.gradcheck(loss, inputs.logprobs)


def test_no_gradient_flows_through_the_weights(make_inputs, run):
    inputs = make_inputs(5)
    out, gradient = run(inputs, CFG)
    _, held = run(inputs, CFG, influence=lambda *_: out.influence_weights)
    assert torch.equal(gradient, held)


def test_the_gradient_has_its_closed_form(make_inputs, run):
    """d l / d logprobs = -A f r where neither clip is active, else 0."""
    inputs = make_inputs(6, spikes=0.2)
    out, gradient = run(inputs, CFG, denominator=1.0)
    positive = out.advantages > 0
    active = torch.where(positive, out.ratio <= 1.28, (out.ratio >= 0.8) & (out.ratio <= 10))
    expected = torch.where(out.kept & active, -out.advantages * out.influence_weights * out.ratio, 0.0)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=0)


def test_old_logprobs_and_advantages_are_constants(make_inputs):
    inputs = make_inputs(7)
    attached = dataclasses.replace(inputs, old_logprobs=inputs.logprobs * 1.0, advantages=inputs.logprobs.mean(dim=1))
    policy_loss(attached, CFG).loss.backward()
    expected = -attached.advantages.detach()[:, None] * inputs.loss_mask / inputs.loss_mask.sum()
    torch.testing.assert_close(inputs.logprobs.grad, expected, rtol=1e-12, atol=1e-15)


def test_a_log_ratio_beyond_20_has_no_gradient(run):
    inputs = LossInputs(
        logprobs=torch.tensor([[0.0, -30.0, -math.inf]], dtype=torch.float64),
        old_logprobs=torch.tensor([[0.0, -1.0, -1.0]], dtype=torch.float64),
        advantages=torch.tensor([1.0], dtype=torch.float64),
        loss_mask=torch.ones(1, 3, dtype=torch.bool),
    )
    out, gradient = run(inputs, FIPOConfig.dapo())
    assert out.log_ratio.tolist() == [[0.0, -20.0, -20.0]]
    assert out.loss.isfinite()
    torch.testing.assert_close(gradient, torch.tensor([[-1 / 3, 0.0, 0.0]], dtype=torch.float64))
