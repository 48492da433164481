"""The divergence from a frozen reference, token by token."""

import torch
from torch import Tensor

from fipo.objective.config import MAX_LOG_RATIO


def kl_penalty(logprobs: Tensor, reference_logprobs: Tensor, loss_mask: Tensor) -> Tensor:
    """exp(d) - d - 1 with d = reference_logprobs - logprobs: KL(policy || reference) of each token, never negative.

    Shapes: [B, T], loss_mask bool -> [B, T] in float32 or better, 0 off the mask, with the graph of logprobs.
    Masked before exp; d is clamped to +-20, beyond which there is no gradient. The gradient is 1 - exp(d).
    Source: Schulman 2020, "Approximating KL divergence" (k3); GRPO 2402.03300 Eq. 4. By expm1, which keeps the digits
    of a small d. It is unbiased for tokens that the policy itself sampled; like GRPO we also use those of old_logprobs.
    """
    dtype = torch.promote_types(torch.promote_types(logprobs.dtype, reference_logprobs.dtype), torch.float32)
    difference = reference_logprobs.detach().to(dtype) - logprobs.to(dtype)
    d = torch.where(loss_mask, difference, 0.0).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    return torch.expm1(d) - d
