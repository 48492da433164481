"""What of the credit is rounding: the policy's own arithmetic beside float32, token by token."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fipo.objective import FIPOConfig, Influence, LossInputs, LossOutput, policy_loss
from fipo.telemetry.clock import Clock
from fipo.training.passes.exact import in_float32
from fipo.training.passes.logprobs import score
from fipo.training.passes.packing import Pack
from fipo.training.trainer import Trainer
from fipo.training.update import UpdateOutcome

SAMPLED_WEIGHTS = 2**20


@dataclass(frozen=True, kw_only=True)
class Credit:
    """What the trained tokens of some packs were credited with, [N] float64 each."""

    log_ratio: Tensor
    future_kl: Tensor
    influence_weight: Tensor


def used_credit(output: LossOutput) -> Credit:
    """What a loss was made of."""
    mask = output.loss_mask
    return Credit(
        log_ratio=output.log_ratio[mask].double(),
        future_kl=output.future_kl[mask].double(),
        influence_weight=output.influence_weights[mask].double(),
    )


def credit_of(
    logprobs: Tensor, old_logprobs: Tensor, pack: Pack, config: FIPOConfig, influence: Influence | None = None
) -> Credit:
    """What a loss of these log-probs [B, K] would be made of."""
    inputs = LossInputs(
        logprobs=logprobs,
        old_logprobs=old_logprobs,
        advantages=pack.advantages if pack.token_advantages is None else pack.token_advantages,
        loss_mask=pack.loss_mask,
    )
    return used_credit(policy_loss(inputs, config, influence=influence))


def rounding_metrics(used: Credit, exact: Credit) -> dict[str, float]:
    """How far the credit that was used is from that of log-probs in float32; {} where nothing has moved.

    fipo/future_kl_noise                   sd(F - F32) / sd(F32): how much of it is rounding for each part of signal
    fipo/rounding/{log_ratio,future_kl,influence_weight}   sd of the error of each
    fipo/rounding/influence_weight_share   1 - correlation(f, f32)^2, the share of f's variance that f32 does not
                                           explain; 0 where every f is the same
    """
    signal = _sd(exact.future_kl)
    if not signal > 0:
        return {}
    errors = {name: _sd(getattr(used, name) - getattr(exact, name)) for name in vars(used)}
    return {
        "fipo/future_kl_noise": errors["future_kl"] / signal,
        **{f"fipo/rounding/{name}": error for name, error in errors.items()},
        "fipo/rounding/influence_weight_share": _unexplained(used.influence_weight, exact.influence_weight),
    }


def correlation(a: Tensor, b: Tensor) -> float:
    """0 where one of them does not vary."""
    a, b = a - a.mean(), b - b.mean()
    scale = float((a.square().sum() * b.square().sum()).sqrt())
    return float((a * b).sum()) / scale if scale > 0 else 0.0


def _unexplained(used: Tensor, exact: Tensor) -> float:
    return 1 - correlation(used, exact) ** 2 if _sd(used) > 0 else 0.0


def _sd(values: Tensor) -> float:
    return float(torch.std(values, correction=0)) if len(values) else 0.0


class RoundingProbe:
    """One pack of a step's last mini-batch, scored in float32 under the weights before the step and before its update.

    It changes nothing that the step computes.
    """

    def __init__(self, trainer: Trainer, mini_batch: int, pack: Pack, clock: Clock) -> None:
        self.trainer = trainer
        self.mini_batch = mini_batch
        self.pack = pack
        self.clock = clock
        self._old = self._scored()
        self._before = self._weights()

    def look(self) -> None:
        """To be called right before the update on the mini-batch."""
        self._now = self._scored()
        self._changed = float((self._weights() != self._before).double().mean())

    def metrics(self, outcomes: Sequence[UpdateOutcome]) -> dict[str, float]:
        """Those of `rounding_metrics`, and fipo/rounding/weights_changed: the share of weights that did, as they are
        rounded for the policy. {} if the update was skipped."""
        outcome, control = outcomes[self.mini_batch], self.trainer.control
        if outcome.skipped:
            return {}
        influence = control.influence if control else None
        exact = credit_of(self._now, self._old, self.pack, self.trainer.algorithm.config, influence)
        found = rounding_metrics(used_credit(outcome.packs[0].output), exact)
        return found and found | {"fipo/rounding/weights_changed": self._changed}

    def _scored(self) -> Tensor:
        """[B, K]"""
        trainer = self.trainer
        with self.clock.phase("rounding"), in_float32(trainer.model, trainer.optimizer.masters):
            logprobs = score(trainer.model, self.pack, trainer.recipe.rollout.temperature, entropy=False).logprobs
        trainer.beat()
        return logprobs

    def _weights(self) -> Tensor:
        """Some of the trained weights as the policy has them, evenly spread over all."""
        parameters = self.trainer.model.parameters()
        trained = [parameter.detach().flatten() for parameter in parameters if parameter.requires_grad]
        every = max(1, sum(map(len, trained)) // SAMPLED_WEIGHTS)
        return torch.cat([weights[::every] for weights in trained])


def rounding_probe(
    trainer: Trainer, step: int, mini_batches: Sequence[Sequence[Pack]], clock: Clock
) -> RoundingProbe | None:
    """None unless it is due, the policy computes in less than float32, and weights move before the last mini-batch."""
    every = trainer.recipe.telemetry.noise_every
    table = trainer.recipe.model
    filled = [i for i, packs in enumerate(mini_batches) if packs]
    due = every and (step == 1 or step % every == 0)
    exact = trainer.model.dtype.itemsize >= 4 and table.matmul == "float32"
    if not due or exact or len(filled) < 2:
        return None
    return RoundingProbe(trainer, filled[-1], mini_batches[filled[-1]][0], clock)
