"""What the sampler says of its tokens' probabilities, and what follows from it."""

import torch
from torch import Tensor

from fipo.integrations.shared import sampler_gap
from fipo.objective import Metric, importance_metrics, truncated_importance_weights


def compared_with_sampler(
    old: Tensor, sampled: Tensor | None, loss_mask: Tensor, *, cap: float | None
) -> tuple[Tensor | None, dict[str, Metric]]:
    """(importance weights [B, T] where there is a cap, metrics) of old and sampled log-probs, [B, T] each.

    A token without a log-prob (NaN, where vLLM could not score it) has the weight 1. Without `sampled` there are no
    metrics, and a cap raises ValueError.
    """
    if sampled is None:
        if cap is not None:
            raise ValueError("vllm_importance_sampling_correction must be off where rollout_func gives no logprobs")
        return None, {}
    sampled = torch.where(sampled.isnan(), old, sampled)
    metrics = sampler_gap(old, sampled, loss_mask)
    if cap is None:
        return None, metrics
    weights = truncated_importance_weights(old, sampled, loss_mask, cap=cap)
    return weights, metrics | importance_metrics(old, sampled, loss_mask, cap=cap)
