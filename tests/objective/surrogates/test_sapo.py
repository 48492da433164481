import math

import pytest
import torch

from fipo.objective import LossInputs, algorithm

ONE = torch.ones(1, 1, dtype=torch.float64)


def loss_at(ratio, advantage, run, **knobs):
    inputs = LossInputs(
        logprobs=ONE * math.log(ratio), old_logprobs=0 * ONE, advantages=advantage * ONE[0], loss_mask=ONE.bool()
    )
    out, gradient = run(inputs, algorithm("sapo", **knobs))
    return out.loss.item(), gradient.item()


@pytest.mark.parametrize(("ratio", "advantage", "tau"), [(2.0, 1.0, 0.7), (0.5, -1.5, 1.3), (1.0, -1.0, 1.3)])
def test_a_hand_worked_token(ratio, advantage, tau, run):
    loss, gradient = loss_at(ratio, advantage, run, tau_pos=0.7, tau_neg=1.3)
    gate = 1 / (1 + math.exp(-tau * (ratio - 1)))
    assert loss == pytest.approx(-advantage * 4 / tau * gate, rel=1e-12)
    assert gradient == pytest.approx(-advantage * 4 * gate * (1 - gate) * ratio, rel=1e-12)


def test_the_gradient_fades_on_either_side_of_1_and_never_stops(run):
    slopes = [-loss_at(ratio, 1.0, run, tau_pos=4.0)[1] / ratio for ratio in (0.25, 0.5, 1.0, 2.0, 4.0)]
    assert slopes[2] == pytest.approx(1.0, rel=1e-12)
    assert slopes[0] < slopes[1] < slopes[2] > slopes[3] > slopes[4] > 0


def test_the_gradient_is_the_numerical_one(make_inputs):
    from fipo.objective import policy_loss

    inputs = make_inputs(4, rows=4, tokens=10, spikes=0.2)

    def loss(logprobs):
        return policy_loss(LossInputs(**{**vars(inputs), "logprobs": logprobs}), algorithm("sapo")).loss

    assert torch.autograd.gradcheck(loss, inputs.logprobs)
