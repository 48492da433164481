"""What of the credit is rounding: the policy's own arithmetic beside float32, token by token."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fipo.objective import FIPOConfig, Influence, LossInputs, LossOutput, policy_loss
from fipo.training.passes.packing import Pack


@dataclass(frozen=True, kw_only=True)
class Credit:
    """Of the trained tokens of some packs, [N] float64 each."""

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
        logprobs=logprobs, old_logprobs=old_logprobs, advantages=pack.advantages, loss_mask=pack.loss_mask
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
