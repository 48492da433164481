"""What can be done about the sampler's engine and the trainer's giving one token two probabilities.

q_t = exp(old_logprobs_t - rollout_logprobs_t) is the ratio of the two. Truncated weights multiply each token's loss by
min(q_t, cap); a mask leaves tokens, or whole responses, out of the loss whose q is outside a band. Both may be on.
"""

import torch
from torch import Tensor

from fipo.objective.algorithm import Algorithm
from fipo.objective.config import MAX_LOG_RATIO, MaskLevel, check_band, check_mask_level, check_number
from fipo.objective.metrics import Max, Mean, Metric
from fipo.objective.types import ArrayLike, as_mask


@torch.no_grad()
def truncated_importance_weights(
    old_logprobs: ArrayLike, rollout_logprobs: ArrayLike, loss_mask: ArrayLike, *, cap: float
) -> Tensor:
    """w_t = min(exp(old_logprobs_t - rollout_logprobs_t), cap): what `LossInputs.importance_weights` takes.

    Shapes: [B, T], loss_mask of bool or 0 and 1 -> [B, T] in float32 or better, without a graph.
    Masked before exp; the difference is clamped to +-20. The values off the mask mean nothing. A token
    alone decides its weight, not its sequence.
    Errors: ValueError for a cap that is not > 0.
    Source: Yao et al. 2025, "Your efficient RL framework secretly brings you off-policy RL training" (TIS). The same
    as verl's token-level `rollout_is_weights` and TRL's `vllm_importance_sampling_cap`.

    >>> truncated_importance_weights([[-1.0, -1.0]], [[-1.0, -3.0]], [[1, 1]], cap=2.0)
    tensor([[1., 2.]])
    """
    check_number("cap", cap, "> 0", lambda v: v > 0)
    return _difference(*_batch(old_logprobs, rollout_logprobs, loss_mask)).exp().clamp(max=cap)


@torch.no_grad()
def importance_mask(
    old_logprobs: ArrayLike,
    rollout_logprobs: ArrayLike,
    loss_mask: ArrayLike,
    *,
    band: tuple[float, float],
    level: MaskLevel = "token",
) -> Tensor:
    """Which loss tokens stay in the loss: low <= q <= high with (low, high) = band, [B, T] bool, False off the mask.

    level "token": q is the token's own ratio. "sequence": exp(mean over the response of old - rollout), the geometric
    mean of its ratios, so that a response stays or leaves as a whole.
    Shapes, masking and clamping as in `truncated_importance_weights`.
    Errors: ValueError for a band or level that is none.
    Source: the band is IcePop's (Ling Team 2025, "Every step evolves", 2510.18855), whose weight inside it is q:
    that is a band (low, high) together with a cap of high.

    >>> importance_mask([[-1.0, -1.0]], [[-1.0, -3.0]], [[1, 1]], band=(0.5, 5.0))
    tensor([[ True, False]])
    """
    low, high = check_band("importance_mask", band)
    check_mask_level(level)
    old_logprobs, rollout_logprobs, loss_mask = _batch(old_logprobs, rollout_logprobs, loss_mask)
    difference = _difference(old_logprobs, rollout_logprobs, loss_mask)
    if level == "sequence":
        difference = difference.sum(dim=1, keepdim=True) / loss_mask.sum(dim=1, keepdim=True).clamp(min=1)
    q = difference.exp()
    return loss_mask & (low <= q) & (q <= high)


@torch.no_grad()
def importance_weights(
    old_logprobs: ArrayLike, rollout_logprobs: ArrayLike, loss_mask: ArrayLike, algorithm: Algorithm
) -> Tensor | None:
    """What `LossInputs.importance_weights` takes under this algorithm: its truncated weights, 1 without a cap, and 0
    where its mask leaves a token out; None where it has neither. Denominators do not change.

    Shapes: [B, T], loss_mask of bool or of 0 and 1 -> [B, T].

    >>> from fipo.objective import algorithm
    >>> importance_weights([[-1.0, -1.0]], [[-1.0, -3.0]], [[1, 1]], algorithm("dapo", importance_mask=(0.5, 5.0)))
    tensor([[1., 0.]])
    """
    cap, band = algorithm.importance_weight_cap, algorithm.importance_mask
    if cap is None and band is None:
        return None
    batch = _batch(old_logprobs, rollout_logprobs, loss_mask)
    weights = torch.ones_like(_difference(*batch)) if cap is None else truncated_importance_weights(*batch, cap=cap)
    if band is None:
        return weights
    return torch.where(importance_mask(*batch, band=band, level=algorithm.importance_mask_level), weights, 0.0)


@torch.no_grad()
def importance_metrics(
    old_logprobs: ArrayLike,
    rollout_logprobs: ArrayLike,
    loss_mask: ArrayLike,
    *,
    cap: float | None = None,
    band: tuple[float, float] | None = None,
    level: MaskLevel = "token",
) -> dict[str, Metric]:
    """Over the loss tokens. With a cap: mean and max of w, and the share whose ratio exceeds it; a ratio at it does
    not. With a band: the share that the mask leaves out.

    Shapes: [B, T], loss_mask of bool or of 0 and 1.

    >>> importance_metrics([[-1.0, -1.0]], [[-1.0, -3.0]], [[1, 1]], cap=2.0)["rollout/importance_weight/capped"].value
    0.5
    """
    batch = _batch(old_logprobs, rollout_logprobs, loss_mask)
    loss_mask = batch[-1]
    metrics: dict[str, Metric] = {}
    tokens = int(loss_mask.sum())
    if cap is not None:
        ratio = _difference(*batch).exp()[loss_mask].double().cpu()
        weights = ratio.clamp(max=cap)
        metrics["rollout/importance_weight/mean"] = Mean(float(weights.sum()), tokens)
        metrics["rollout/importance_weight/max"] = Max(float(weights.max()) if tokens else float("-inf"))
        metrics["rollout/importance_weight/capped"] = Mean(float((ratio > cap).sum()), tokens)
    if band is not None:
        stay = importance_mask(*batch, band=band, level=level)
        metrics["rollout/importance_mask/left_out"] = Mean(float(tokens - stay.sum()), tokens)
    return metrics


def _batch(old_logprobs: ArrayLike, rollout_logprobs: ArrayLike, loss_mask: ArrayLike) -> tuple[Tensor, Tensor, Tensor]:
    return torch.as_tensor(old_logprobs), torch.as_tensor(rollout_logprobs), as_mask(loss_mask)


def _difference(old_logprobs: Tensor, rollout_logprobs: Tensor, loss_mask: Tensor) -> Tensor:
    """old - rollout, 0 off the mask, clamped to +-20."""
    dtype = torch.promote_types(torch.promote_types(old_logprobs.dtype, rollout_logprobs.dtype), torch.float32)
    difference = torch.where(loss_mask, old_logprobs.to(dtype) - rollout_logprobs.to(dtype), 0.0)
    return difference.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
