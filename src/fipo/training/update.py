"""One optimizer step on one mini-batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from fipo.errors import RunStopped
from fipo.objective import Algorithm, LossInputs, LossOutput, policy_loss
from fipo.training.logprobs import ScoredPack, token_logprobs


@dataclass(frozen=True, kw_only=True)
class UpdateOutcome:
    outputs: list[LossOutput]  # one per pack: the metrics and the per-token credit
    grad_norm: float  # before clipping; 0 without loss tokens
    skipped: bool  # the loss or the gradient was not finite: the weights are untouched


def update(
    model: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    packs: Sequence[ScoredPack],
    algorithm: Algorithm,
    *,
    temperature: float,
    token_divisor: float | None,
    max_grad_norm: float,
    beat: Callable[[], None] = lambda: None,
) -> UpdateOutcome:
    """Accumulate the un-normalised gradient over the packs, divide it once by the mini-batch's weight, step.

    One division for the whole mini-batch makes the result independent of how it is cut, also where the
    sequence filter takes tokens out of the denominator. Without a token in the loss nothing happens.

    Raises RunStopped if a weight is not finite afterwards. AdamW cannot make it so from a finite gradient at a
    learning rate of at most 1, but a broken machine can.
    """
    optimizer.zero_grad()
    outputs = []
    for scored in packs:
        inputs = LossInputs(
            logprobs=token_logprobs(model, scored.pack, temperature),
            old_logprobs=scored.old_logprobs,
            advantages=scored.pack.advantages,
            loss_mask=scored.pack.loss_mask,
        )
        output = policy_loss(
            inputs,
            algorithm.config,
            aggregation=algorithm.aggregation,
            denominator=1.0,
            token_divisor=token_divisor,
        )
        output.loss.backward()
        outputs.append(output)
        beat()

    weight = sum(int(output.weight) for output in outputs)
    if not any(bool(output.kept.any()) for output in outputs):
        return UpdateOutcome(outputs=outputs, grad_norm=0.0, skipped=False)
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad /= weight
    grad_norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm))
    finite = grad_norm < float("inf") and all(bool(output.total.isfinite()) for output in outputs)
    if finite:
        optimizer.step()
        _check_weights(model)
    return UpdateOutcome(outputs=outputs, grad_norm=grad_norm, skipped=not finite)


def _check_weights(model: PreTrainedModel) -> None:
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise RunStopped(f"update: {name} must stay finite, got NaN or inf; the last checkpoint is untouched")
