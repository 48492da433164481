"""Rewards of graded responses: what the graders pay, 0 where one failed, and DAPO's overlong penalty."""

from collections.abc import Sequence
from typing import Annotated, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from fipo.grading.outcomes import reward_of
from fipo.grading.panel import label
from fipo.grading.registry import GraderName
from fipo.recipe.table import InAllOrNone, Table
from fipo.rollout.groups import Group
from fipo.rollout.table import RolloutTable


class PaidGrader(Table):
    """One of several graders that make up the reward."""

    name: GraderName
    """One of ours, or `module:function`; a metric of its own."""
    weight: Annotated[float, Field(ge=-1e6, le=1e6)] = 1.0
    """What it gives counts so much in the sum; 0 = it is a metric alone."""


class RewardTable(Table):
    """+1 for a correct answer and -1 for any other, or the number that the grader gives; and what follows."""

    scale: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    """What graders give is multiplied by this: right and wrong are worth +scale and -scale."""
    format: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """Added where `data.grader` found an answer in the form that it reads, right or wrong."""
    graders: Annotated[list[PaidGrader], Field(min_length=1)] | None = None
    """These make up the reward, a weighted sum, in place of `data.grader`, which goes on to say what is right; it may
    be among them, and if it is left out it is the first of them."""
    overlong_buffer: InAllOrNone = 0
    """Tokens before `max_response_tokens` over which a penalty grows from 0 to -1 (DAPO); 0 = none."""
    mask_truncated: bool = False
    """Leave truncated responses out of the loss."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        names = [label(grader.name) for grader in self.graders or ()]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"graders must have different names, got {twice!r} twice")
        return self

    @property
    def weights(self) -> dict[str, float]:
        return {grader.name: grader.weight for grader in self.graders or ()}


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
