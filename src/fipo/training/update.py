"""One optimizer step on one mini-batch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fipo.errors import RunStopped
from fipo.objective import Algorithm, LossInputs, LossOutput, importance_weights, policy_loss
from fipo.training.passes.logprobs import Scores, score
from fipo.training.passes.packed_attention import attending_within_sequences
from fipo.training.passes.packing import Pack
from fipo.training.trainer import Trainer


@dataclass(frozen=True, kw_only=True)
class TrainedPack:
    pack: Pack
    old: Scores  # under the weights before the step's first update
    output: LossOutput  # the metrics and the per-token credit


@dataclass(frozen=True, kw_only=True)
class UpdateOutcome:
    packs: list[TrainedPack]
    grad_norm: float  # before clipping; 0 without loss tokens
    skipped: bool  # the loss or the gradient was not finite: the weights are untouched
    overflowed: bool = False  # that was the range of float16, and the loss scale is smaller now


def update(
    trainer: Trainer, packs: Sequence[Pack], old: Sequence[Scores] | None, reference: Sequence[Tensor] | None
) -> UpdateOutcome:
    """Accumulate the un-normalised gradient over the packs, divide it once by the mini-batch's weight, step.

    One division for the whole mini-batch makes the result independent of how it is cut, also where the
    sequence filter takes tokens out of the denominator. Without a token in the loss nothing happens.
    The loss of a float16 policy is scaled on its way through the backward pass; where that was too much the update is
    skipped, and the next ones are scaled by less.
    `old` None: the weights have not moved since the packs were made, so the log-probs of now are the old ones.
    `reference`: log-probs of each pack under the model that the KL penalty holds on to, None without a penalty.

    Raises RunStopped if a weight is not finite afterwards. AdamW cannot make it so from a finite gradient at a
    learning rate of at most 1, but a broken machine can.
    """
    optimizer = trainer.optimizer
    scale = 1.0
    if trainer.loss_scale:
        scale = trainer.loss_scale.multiplier(_expected_weight(packs, trainer.algorithm))
    trained = trainer.with_room(partial(_backward, trainer, packs, old, reference, scale))
    outputs = [one.output for one in trained]
    if not any(int(output.kept_tokens) for output in outputs):
        return UpdateOutcome(packs=trained, grad_norm=0.0, skipped=False)
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    _divide_gradients(weights, sum(int(output.weight) for output in outputs) * scale)
    grad_norm = float(torch.nn.utils.clip_grad_norm_(weights, trainer.recipe.update.max_grad_norm))
    finite_loss = all(bool(output.total.isfinite()) for output in outputs)
    finite = grad_norm < float("inf") and finite_loss
    scale_helps = bool(trainer.loss_scale and finite_loss and trainer.loss_scale.note(finite=finite))
    if finite:
        optimizer.step()
        _check_weights(trainer.model)
    return UpdateOutcome(packs=trained, grad_norm=grad_norm, skipped=not finite, overflowed=scale_helps)


def _backward(
    trainer: Trainer,
    packs: Sequence[Pack],
    old: Sequence[Scores] | None,
    reference: Sequence[Tensor] | None,
    scale: float,
) -> list[TrainedPack]:
    """The packs, with the un-normalised gradient of their losses x `scale` added up."""
    model, algorithm, rollout = trainer.model, trainer.algorithm, trainer.recipe.rollout
    trainer.optimizer.zero_grad()
    entropy = algorithm.entropy_coef > 0
    trained = []
    for i, pack in enumerate(packs):
        now = score(model, pack, rollout.temperature, entropy=entropy or old is None, entropy_graph=entropy)
        before = now.detached() if old is None else old[i]
        output = policy_loss(
            _loss_inputs(pack, now, before, None if reference is None else reference[i], algorithm),
            algorithm,
            denominator=1.0,
            longest=rollout.max_response_tokens,
            influence=trainer.control.influence if trainer.control else None,
        )
        with attending_within_sequences(model, on=pack.segments is not None):
            (output.loss * scale if trainer.loss_scale else output.loss).backward()
        trained.append(TrainedPack(pack=pack, old=before, output=output))
        trainer.beat()
    return trained


def _expected_weight(packs: Sequence[Pack], algorithm: Algorithm) -> int:
    """What the gradient will be divided by, if the filter keeps every sequence."""
    if algorithm.aggregation == "token-mean":
        return sum(len(pack.tokens) for pack in packs)
    return sum(len(pack.rollouts) for pack in packs)


def _loss_inputs(pack: Pack, now: Scores, before: Scores, reference: Tensor | None, algorithm: Algorithm) -> LossInputs:
    return LossInputs(
        logprobs=now.logprobs,
        old_logprobs=before.logprobs,
        advantages=pack.advantages if pack.token_advantages is None else pack.token_advantages,
        loss_mask=pack.loss_mask,
        importance_weights=importance_weights(before.logprobs, pack.rollout_logprobs, pack.loss_mask, algorithm),
        reference_logprobs=reference,
        entropies=now.entropy if algorithm.entropy_coef > 0 else None,
    )


def _divide_gradients(weights: Sequence[Tensor], divisor: float) -> None:
    if gradients := [weight.grad for weight in weights if weight.grad is not None]:
        torch._foreach_div_(gradients, divisor)


def _check_weights(model: PreTrainedModel) -> None:
    names, parameters = zip(*model.named_parameters(), strict=True)
    finite = torch.stack([parameter.isfinite().all() for parameter in parameters])
    if not bool(finite.all()):
        first = names[finite.tolist().index(False)]
        raise RunStopped(f"update: {first} must stay finite, got NaN or inf; the last checkpoint is untouched")
