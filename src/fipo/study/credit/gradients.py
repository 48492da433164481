"""Gradients of the objective for many sets of weights at once, and the one that they should have."""

import math
from collections.abc import Iterable, Sequence

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
    old_logprobs: Tensor,
    weights: Iterable[tuple[str, Tensor]],
    target: Tensor,
) -> dict[str, tuple[float, float]]:
    """By name: the cosines of the step, which is minus the loss's gradient, to the target and to the first one's step.

    One forward pass serves all: the loss is differentiated as far as the log-probs for each set of weights.
    """
    parameters = list(model.parameters())
    logprobs = score(model, pack, 1.0, entropy=False).logprobs
    found: dict[str, tuple[float, float]] = {}
    first: Tensor | None = None
    for name, f in weights:
        step = -_gradient(model, parameters, pack, logprobs, old_logprobs, f)
        first = step if first is None else first
        found[name] = (_cosine(step, target), _cosine(step, first))
    return found


def _gradient(
    model: PreTrainedModel, parameters: Sequence[Tensor], pack: Pack, logprobs: Tensor, old: Tensor, f: Tensor
) -> Tensor:
    leaf = logprobs.detach().requires_grad_()
    inputs = LossInputs(logprobs=leaf, old_logprobs=old, advantages=pack.advantages, loss_mask=pack.loss_mask)
    policy_loss(inputs, DAPO, influence=lambda *_: f).loss.backward()
    with attending_within_sequences(model, on=pack.segments is not None):
        parts = torch.autograd.grad(logprobs, parameters, grad_outputs=leaf.grad, retain_graph=True)
    return torch.cat([part.flatten() for part in parts]).double()


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b) / math.sqrt(float(a @ a) * float(b @ b))
