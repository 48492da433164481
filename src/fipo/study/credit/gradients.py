"""Gradients of the objective for many sets of weights at once, and the one that they should have."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fipo.objective import FIPOConfig, LossInputs, policy_loss
from fipo.training.passes.logprobs import score
from fipo.training.passes.packed_attention import attending_within_sequences
from fipo.training.passes.packing import Pack

DAPO = FIPOConfig.dapo()


def target_gradient(model: PreTrainedModel, packs: Sequence[Pack], advantages: Sequence[Tensor]) -> Tensor:
    """The policy gradient, sum of A_t grad log pi(t) over fresh responses and their true advantages, as one vector."""
    model.zero_grad()
    for pack, own in zip(packs, advantages, strict=True):
        logprobs = score(model, pack, 1.0, entropy=False).logprobs
        with attending_within_sequences(model, on=pack.segments is not None):
            (logprobs * own).sum().backward()
    gradient = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.grad is not None])
    model.zero_grad()
    return gradient.double()


def cosines(
    model: PreTrainedModel,
    pack: Pack,
    parts: Sequence[Pack],
    old_logprobs: Tensor,
    weights: Mapping[str, Tensor],
    target: Tensor,
) -> dict[str, tuple[float, float]]:
    """By name: the cosines of the step, which is minus the loss's gradient, to the target and to the first one's step.

    Old log-probs and weights are those of `pack`, whose responses the `parts` have again, few in each. One forward pass
    of a part serves all weights: the loss is differentiated as far as the log-probs for each of them.
    """
    parameters = list(model.parameters())
    size = sum(parameter.numel() for parameter in parameters)
    steps = {name: torch.zeros(size, dtype=torch.float64, device=model.device) for name in weights}
    for part in parts:
        rows, width = [pack.rollouts.index(rollout) for rollout in part.rollouts], part.loss_mask.shape[1]
        logprobs = score(model, part, 1.0, entropy=False).logprobs
        for name, f in weights.items():
            leaf = logprobs.detach().requires_grad_()
            _loss(part, leaf, old_logprobs[rows, :width], f[rows, :width]).backward()
            with attending_within_sequences(model, on=part.segments is not None):
                gradient = torch.autograd.grad(logprobs, parameters, grad_outputs=leaf.grad, retain_graph=True)
            steps[name] -= torch.cat([own.flatten() for own in gradient])
    first = next(iter(steps.values()))
    return {name: (_cosine(step, target), _cosine(step, first)) for name, step in steps.items()}


def _loss(pack: Pack, logprobs: Tensor, old: Tensor, f: Tensor) -> Tensor:
    """DAPO's with f on the advantages, summed over tokens."""
    inputs = LossInputs(logprobs=logprobs, old_logprobs=old, advantages=pack.advantages, loss_mask=pack.loss_mask)
    return policy_loss(inputs, DAPO, denominator=1.0, influence=lambda *_: f).loss


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
