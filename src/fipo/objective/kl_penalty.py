"""The divergence from a frozen reference, token by token."""

import torch
from torch import Tensor

from fipo.objective.config import MAX_LOG_RATIO
from fipo.objective.types import ArrayLike, as_mask


def kl_penalty(logprobs: ArrayLike, reference_logprobs: ArrayLike, loss_mask: ArrayLike) -> Tensor:
    """exp(d) - d - 1 with d = reference_logprobs - logprobs: KL(policy || reference) of each token, never negative.

    Shapes: [B, T], loss_mask of bool or of 0 and 1 -> [B, T] in float32 or better, 0 off the mask, with
    the graph of logprobs. Masked before exp; d is clamped to +-20, beyond which there is no gradient. The gradient is
    1 - exp(d).
    Source: Schulman 2020, "Approximating KL divergence" (k3); GRPO 2402.03300 Eq. 4. By expm1, which keeps the digits
    of a small d. It is unbiased for tokens that the policy itself sampled; like GRPO we also use those of old_logprobs.

    >>> kl_penalty([[-1.0, -2.0]], [[-1.0, -1.0]], [[1, 1]])
    tensor([[0.0000, 0.7183]])
    """
    logprobs, reference_logprobs = torch.as_tensor(logprobs), torch.as_tensor(reference_logprobs)
    loss_mask = as_mask(loss_mask)
    dtype = torch.promote_types(torch.promote_types(logprobs.dtype, reference_logprobs.dtype), torch.float32)
    difference = reference_logprobs.detach().to(dtype) - logprobs.to(dtype)
    d = torch.where(loss_mask, difference, 0.0).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return torch.expm1(d) - d
