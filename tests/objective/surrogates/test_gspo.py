import math

import torch

from fipo.objective import LossInputs, algorithm, policy_loss
from fipo.objective.surrogates.gspo import MAX_MEAN_LOG_RATIO

WIDE = {"clip_low": 0.05, "clip_high": 0.08}


def test_a_hand_worked_batch(run):
    """Mean log-ratios (log 4 + 0) / 2 = log 2 and log(1/2); of the second response one token is padding.

    A = 1, s = 2: min(2, 1.08) for both tokens. A = -1, s = 1/2: max(-1/2, -0.95).
    """
    ratio = torch.tensor([[4.0, 1.0], [0.5, 9.0]], dtype=torch.float64)
    inputs = LossInputs(
        logprobs=ratio.log(),
        old_logprobs=torch.zeros(2, 2, dtype=torch.float64),
        advantages=torch.tensor([1.0, -1.0], dtype=torch.float64),
        loss_mask=torch.tensor([[True, True], [True, False]]),
    )
    out, gradient = run(inputs, algorithm("gspo", **WIDE))
    torch.testing.assert_close(out.loss.item(), (-1.08 + 0.95) / 2, rtol=1e-12, atol=0)
    assert (gradient == 0).all()


def test_the_gradient_of_a_token_is_minus_the_advantage_times_the_ratio_of_its_response(make_inputs, run):
    inputs = make_inputs(6, noise=0.3)
    out, gradient = run(inputs, algorithm("gspo", aggregation="token-mean", **WIDE), denominator=1.0)
    mask = inputs.loss_mask
    s = ((out.log_ratio * mask).sum(1) / mask.sum(1)).exp()[:, None].expand_as(mask)
    active = torch.where(out.advantages > 0, s <= 1.08, s >= 0.95)
    expected = torch.where(mask & active, -out.advantages * s, 0.0)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=0)
    assert 0 < active[mask].double().mean() < 1


def test_the_gradient_is_that_of_the_ratio_of_the_response_where_all_its_tokens_share_an_advantage(make_inputs, run):
    """GSPO-token is GSPO then: d s / d logprob_t = s / |y|, and the mean over the response divides by |y| as well."""
    inputs = make_inputs(7, noise=0.3)
    _, gradient = run(inputs, algorithm("gspo", **WIDE))
    logprobs = inputs.logprobs.detach().clone().requires_grad_()
    mask = inputs.loss_mask
    s = (((logprobs - inputs.old_logprobs) * mask).sum(1) / mask.sum(1)).exp()
    loss = -torch.minimum(inputs.advantages * s, inputs.advantages * s.clamp(0.95, 1.08)).mean()
    (expected,) = torch.autograd.grad(loss, logprobs)
    torch.testing.assert_close(gradient, expected, rtol=1e-11, atol=1e-15)


def test_a_mean_log_ratio_beyond_10_is_finite_and_has_no_gradient(run):
    inputs = LossInputs(
        logprobs=torch.full((1, 3), 12.0),
        old_logprobs=torch.zeros(1, 3),
        advantages=torch.tensor([-1.0]),
        loss_mask=torch.ones(1, 3, dtype=torch.bool),
    )
    out, gradient = run(inputs, algorithm("gspo"))
    torch.testing.assert_close(out.loss.item(), math.exp(MAX_MEAN_LOG_RATIO), rtol=1e-6, atol=0)
    assert (gradient == 0).all()


def test_one_token_moves_the_bound_of_its_whole_response(make_inputs):
    inputs = make_inputs(8, noise=0.0, spikes=0.0)
    before = policy_loss(inputs, algorithm("gspo"))
    logprobs = inputs.logprobs.detach().clone()
    token = int(inputs.loss_mask[0].nonzero()[0])
    logprobs[0, token] += 40 * 0.5
    after = policy_loss(LossInputs(**{**vars(inputs), "logprobs": logprobs}), algorithm("gspo"))
    mask = inputs.loss_mask
    assert after.fields.clipped_high[0][mask[0]].all()
    assert torch.equal(after.fields.clipped_high[1:], before.fields.clipped_high[1:])
    assert math.isfinite(after.loss.item())
