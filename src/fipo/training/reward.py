"""Rewards of graded responses: +1 or -1 by the answer, 0 where the grader failed, and DAPO's overlong penalty."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fipo.grading.outcomes import reward_of
from fipo.recipe.table import InAllOrNone, Table
from fipo.rollout.groups import Group
from fipo.rollout.table import RolloutTable


class RewardTable(Table):
    """+1 for a correct answer, -1 for any other, and what follows."""

    overlong_buffer: InAllOrNone = 0
    """Tokens before `max_response_tokens` over which a penalty grows from 0 to -1 (DAPO); 0 = none."""
    mask_truncated: bool = False
    """Leave truncated responses out of the loss."""


def group_rewards(groups: Sequence[Group], rollout: RolloutTable, reward: RewardTable) -> Tensor:
    """[P, G] float32 rewards of the responses of P groups."""
    rewards = [
        reward_of(grade) + overlong_penalty(len(response.tokens), rollout.max_response_tokens, reward.overlong_buffer)
        for group in groups
        for response, grade in zip(group.responses, group.grades, strict=True)
    ]
    return torch.tensor(rewards, dtype=torch.float32).reshape(len(groups), rollout.group_size)


def overlong_penalty(length: int, max_tokens: int, buffer: int) -> float:
    """0 up to `max_tokens - buffer` tokens, then linear to -1 at `max_tokens` (DAPO, arXiv 2503.14476, Eq. 13)."""
    excess = length - (max_tokens - buffer)
    return -excess / buffer if buffer and excess > 0 else 0.0
