import pytest
import torch

from fipo.objective import algorithm


@pytest.mark.parametrize(("low", "expected_low"), [(0.2, 0.8), (1.0, 0.0), (10.0, 0.0)])
def test_loss_and_gradient_have_their_closed_form(low, expected_low, make_inputs, run):
    """d l / d logprob = -A sg(clamp(r)): no token loses its gradient, and none is pushed harder than the bound."""
    inputs = make_inputs(6, noise=0.5, spikes=0.2)
    out, gradient = run(inputs, algorithm("cispo", clip_low=low, clip_high=0.3), denominator=1.0)
    weight = out.ratio.clamp(expected_low, 1.3)
    expected = torch.where(inputs.loss_mask, -out.advantages * weight, 0.0)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(out.loss.item(), (expected * inputs.logprobs).sum().item(), rtol=1e-12, atol=0)
    assert (gradient[inputs.loss_mask] != 0).all()
    assert (out.ratio > 1.3).any() and (out.ratio < 0.8).any()
