"""Rewards of graded responses: +1 or -1 by the answer, 0 where the grader failed, and DAPO's overlong penalty."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fipo.rollout.groups import Group
from fipo.training.recipe import Reward, Rollout


def group_rewards(groups: Sequence[Group], rollout: Rollout, reward: Reward) -> Tensor:
    """[P, G] float32 rewards of the responses of P groups."""
    rewards = [
        (1.0 if grade.correct else 0.0 if grade.failed else -1.0)
        + overlong_penalty(len(response.tokens), rollout.max_response_tokens, reward.overlong_buffer)
        for group in groups
        for response, grade in zip(group.responses, group.grades, strict=True)
    ]
    return torch.tensor(rewards, dtype=torch.float32).reshape(len(groups), rollout.group_size)


def overlong_penalty(length: int, max_tokens: int, buffer: int) -> float:
    """0 up to `max_tokens - buffer` tokens, then linear to -1 at `max_tokens` (DAPO, arXiv 2503.14476, Eq. 13)."""
    excess = length - (max_tokens - buffer)
    return -excess / buffer if buffer and excess > 0 else 0.0
