import dataclasses
import math

import pytest
import torch

from fipo.objective import FIPOConfig, LossInputs, policy_loss

GOOD = {
    "logprobs": torch.zeros(2, 3),
    "old_logprobs": torch.zeros(2, 3),
    "advantages": torch.zeros(2),
    "loss_mask": torch.ones(2, 3, dtype=torch.bool),
}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("logprobs", torch.zeros(3), "logprobs must have shape [B, T], got [3]"),
        (
            "old_logprobs",
            torch.zeros(2, 4),
            "logprobs and old_logprobs must have the same shape, got [2, 3] and [2, 4]",
        ),
        (
            "loss_mask",
            torch.ones(3, 2, dtype=torch.bool),
            "logprobs and loss_mask must have the same shape, got [2, 3] and [3, 2]",
        ),
        ("advantages", torch.zeros(3), "advantages must have shape [2, 3] or [2], as logprobs has, got [3]"),
        (
            "advantages",
            torch.zeros(2, 1),
            "advantages must have shape [2, 3] or [2], as logprobs has, got [2, 1]",
        ),
        ("loss_mask", torch.ones(2, 3), "loss_mask must be bool, got torch.float32"),
        (
            "advantages",
            torch.ones(2, dtype=torch.int64),
            "advantages must be floating point, got torch.int64",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named_with_both_shapes(name, value, message):
    with pytest.raises(ValueError) as error:
        LossInputs(**{**GOOD, name: value})
    assert str(error.value) == message


def test_inputs_and_outputs_are_frozen():
    inputs = LossInputs(**GOOD)
    with pytest.raises(dataclasses.FrozenInstanceError):
        inputs.logprobs = torch.ones(2, 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        policy_loss(inputs, FIPOConfig()).loss = 0.0


def test_only_the_loss_carries_a_graph(make_inputs):
    out = policy_loss(make_inputs(0), FIPOConfig.release_7b())
    parts = (out, out.rows, out.fields)
    tensors = {
        (type(part).__name__, field.name): getattr(part, field.name)
        for part in parts
        for field in dataclasses.fields(part)
        if isinstance(getattr(part, field.name), torch.Tensor)
    }
    assert {name for name, tensor in tensors.items() if tensor.requires_grad} == {("LossOutput", "loss")}
    assert not out.kept.requires_grad


def test_the_output_says_per_token_what_the_loss_saw(make_inputs):
    inputs = make_inputs(1)
    mask = inputs.loss_mask
    tokenwise = torch.where(mask, inputs.advantages[:, None], math.nan)
    out = policy_loss(dataclasses.replace(inputs, advantages=tokenwise), FIPOConfig.release_7b())
    difference = (inputs.logprobs - inputs.old_logprobs).detach()
    assert torch.equal(out.log_ratio, torch.where(mask, difference, 0.0))
    assert torch.equal(out.ratio, out.log_ratio.exp())
    assert torch.equal(out.advantages, torch.where(mask, inputs.advantages[:, None], 0.0))
    assert out.future_kl.shape == out.influence_weights.shape == out.kept.shape == (6, 40)
    assert not out.dual_clipped[~mask].any()
