import dataclasses
import math

import numpy as np
import pytest
import torch

from fipo.objective import (
    FIPOConfig,
    LossInputs,
    future_kl,
    group_advantages,
    merge_metrics,
    metric_values,
    policy_loss,
)

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
        ("loss_mask", torch.full((2, 3), 0.5), "loss_mask must be of bool, or of 0 and 1, got 0.5"),
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


@pytest.mark.parametrize("form", [lambda x: x, lambda x: np.array(x), lambda x: torch.tensor(x)])
@pytest.mark.parametrize("mask", [[[1, 1, 0]], [[True, True, False]], [[1.0, 1.0, 0.0]]])
def test_lists_arrays_and_tensors_give_the_same_loss(form, mask):
    logprobs = torch.tensor([[-1.0, -2.0, -3.0]])
    old = [[-1.0, -2.5, -3.0]]
    inputs = LossInputs(logprobs=logprobs, old_logprobs=form(old), advantages=form([1.0]), loss_mask=form(mask))
    plain = LossInputs(
        logprobs=logprobs,
        old_logprobs=torch.tensor(old),
        advantages=torch.tensor([1.0]),
        loss_mask=torch.tensor([[True, True, False]]),
    )
    cfg = FIPOConfig.release_32b()
    assert policy_loss(inputs, cfg).loss.item() == pytest.approx(policy_loss(plain, cfg).loss.item(), rel=1e-6)
    assert inputs.loss_mask.dtype == torch.bool


def test_the_metrics_of_a_loss_have_values_that_can_be_logged():
    inputs = LossInputs(logprobs=[[-1.0]], old_logprobs=[[-1.0]], advantages=[1.0], loss_mask=[[1]])
    metrics = policy_loss(inputs, FIPOConfig.release_32b()).metrics()
    assert metrics.values() == metric_values(metrics)
    assert all(isinstance(value, int | float) for value in metrics.values().values())
    assert merge_metrics([metrics, metrics]).values()["fipo/influence_weight/mean"] == 1.0


def test_groups_of_rewards_and_log_ratios_may_be_lists_or_arrays():
    rewards = [[1, 0, 0, 1]]
    expected = group_advantages(torch.tensor(rewards, dtype=torch.float32))
    assert torch.equal(group_advantages(rewards), expected)
    assert torch.equal(group_advantages(np.array(rewards)), expected)
    assert torch.equal(group_advantages(np.array(rewards, dtype=bool)), expected)
    assert torch.equal(future_kl([[0.0, 1.0]]), future_kl(torch.tensor([[0.0, 1.0]])))
