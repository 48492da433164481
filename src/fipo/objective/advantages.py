"""Group-relative advantages: each response is judged against the others of its problem."""

import torch
from torch import Tensor

from fipo.objective.types import ArrayLike


def group_advantages(rewards: ArrayLike, *, scale_by_std: bool = True) -> Tensor:
    """A = (R - mean_group) / (std_group + 1e-6), the standard deviation unbiased.

    Shapes: rewards [P, G] (P problems, G responses each), a tensor, an array or lists -> [P, G], in float32 or better.
    A group of one keeps mean 0 and std 1 (as in verl), so its advantage is its reward. A group of equal
    rewards gets exactly 0.
    `scale_by_std=False` leaves the division out: Dr. GRPO (2503.20783). Otherwise GRPO (2402.03300).
    Errors: ValueError unless rewards is [P, G] with G >= 1.

    >>> group_advantages([[1, -1, -1, -1]])
    tensor([[ 1.5000, -0.5000, -0.5000, -0.5000]])
    """
    rewards = torch.as_tensor(rewards)
    if rewards.dim() != 2 or rewards.shape[1] < 1:
        raise ValueError(f"rewards must have shape [P, G] with G >= 1, got {list(rewards.shape)}")
    rewards = rewards.to(torch.promote_types(rewards.dtype, torch.float32))
    group = rewards.shape[1]
    if group == 1:
        mean, std = torch.zeros_like(rewards), torch.ones_like(rewards)
    else:
        # Measured from the first reward, so that a constant group is 0 and not a rounding error / 1e-6.
        rewards = rewards - rewards[:, :1]
        mean = rewards.mean(dim=1, keepdim=True)
        std = ((rewards - mean).square().sum(dim=1, keepdim=True) / (group - 1)).sqrt()
    return (rewards - mean) / (std + 1e-6) if scale_by_std else rewards - mean
