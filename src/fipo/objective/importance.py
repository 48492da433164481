"""Truncated importance weights: the sampler's engine and the trainer's give one token two probabilities."""

import torch
from torch import Tensor

from fipo.objective.config import MAX_LOG_RATIO, check_number
from fipo.objective.metrics import Max, Mean, Metric


@torch.no_grad()
def truncated_importance_weights(
    old_logprobs: Tensor, rollout_logprobs: Tensor, loss_mask: Tensor, *, cap: float
) -> Tensor:
    """w_t = min(exp(old_logprobs_t - rollout_logprobs_t), cap): what `LossInputs.importance_weights` takes.

    Shapes: [B, T], loss_mask bool -> [B, T] in float32 or better, without a graph. Masked before exp; the difference
    is clamped to +-20. The values off the mask mean nothing. A token alone decides its weight, not its sequence.
    Errors: ValueError for a cap that is not > 0.
    Source: Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL training" (TIS). The same
    as verl's token-level `rollout_is_weights` and TRL's `vllm_importance_sampling_cap`.
    """
    check_number("cap", cap, "> 0", lambda v: v > 0)
    return _ratio(old_logprobs, rollout_logprobs, loss_mask).clamp(max=cap)


@torch.no_grad()
def importance_metrics(
    old_logprobs: Tensor, rollout_logprobs: Tensor, loss_mask: Tensor, *, cap: float
) -> dict[str, Metric]:
    """Over the loss tokens: mean and max of w, and the share whose ratio exceeds the cap. A ratio at it does not."""
    ratio = _ratio(old_logprobs, rollout_logprobs, loss_mask)[loss_mask].double().cpu()
    weights, tokens = ratio.clamp(max=cap), ratio.numel()
    return {
        "rollout/importance_weight/mean": Mean(float(weights.sum()), tokens),
        "rollout/importance_weight/max": Max(float(weights.max()) if tokens else float("-inf")),
        "rollout/importance_weight/capped": Mean(float((ratio > cap).sum()), tokens),
    }


def _ratio(old_logprobs: Tensor, rollout_logprobs: Tensor, loss_mask: Tensor) -> Tensor:
    dtype = torch.promote_types(torch.promote_types(old_logprobs.dtype, rollout_logprobs.dtype), torch.float32)
    difference = torch.where(loss_mask, old_logprobs.to(dtype) - rollout_logprobs.to(dtype), 0.0)
    return difference.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp()
