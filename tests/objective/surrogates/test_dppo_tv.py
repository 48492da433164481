import math

import pytest
import torch

from fipo.objective import LossInputs, algorithm


def gradient_of(p, p_old, advantage, run, preset="dppo_tv", **knobs):
    """Of one token with these probabilities, un-normalised."""
    one = torch.ones(1, 1, dtype=torch.float64)
    inputs = LossInputs(
        logprobs=one * math.log(p), old_logprobs=one * math.log(p_old), advantages=advantage * one[0], loss_mask=one > 0
    )
    out, gradient = run(inputs, algorithm(preset, **knobs), denominator=1.0)
    assert out.loss.item() == pytest.approx(gradient.item() * math.log(p), rel=1e-12)
    return gradient.item()


@pytest.mark.parametrize(
    ("p", "p_old", "advantage", "valid"),
    [
        (0.60, 0.50, 1.0, True),
        (0.80, 0.50, 1.0, False),
        (0.80, 0.50, -1.0, True),  # on its way back
        (0.20, 0.50, -1.0, False),
        (0.20, 0.50, 1.0, True),
        (0.40, 0.50, -1.0, True),
        (0.004, 0.001, 1.0, True),  # a ratio of 4, a shift of 0.003: what a clip of ratios would have stopped
    ],
)
def test_a_token_is_trained_on_inside_the_trust_region_and_on_its_way_back(p, p_old, advantage, valid, run):
    expected = -advantage * p / p_old if valid else 0.0
    assert gradient_of(p, p_old, advantage, run, clip_low=0.2, clip_high=0.2) == pytest.approx(expected, rel=1e-12)


def test_a_ratio_beyond_the_cap_counts_as_the_cap_and_keeps_its_gradient(run):
    assert gradient_of(0.1, 0.001, -1.0, run, ratio_cap=20.0) == pytest.approx(20.0, rel=1e-12)


def test_loss_and_gradient_have_their_closed_form(make_inputs, run):
    inputs = make_inputs(6, noise=0.5, spikes=0.2)
    out, gradient = run(inputs, algorithm("dppo_tv", ratio_cap=3.0), denominator=1.0)
    shift = inputs.logprobs.exp() - inputs.old_logprobs.exp()
    valid = torch.where(out.advantages > 0, shift <= 0.15, shift >= -0.15)
    expected = torch.where(inputs.loss_mask & valid, -out.advantages * out.ratio.clamp(max=3.0), 0.0)
    torch.testing.assert_close(gradient, expected.detach(), rtol=1e-12, atol=0)
    assert 0 < valid[inputs.loss_mask].double().mean() < 1
