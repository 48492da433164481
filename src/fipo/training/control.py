"""Other weights or advantages in place of FIPO's, so that a study can tell credit from its side effects."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from fipo.objective import Influence
from fipo.rollout.groups import GroupBatch

TokenAdvantages = Callable[[GroupBatch, Tensor], list[list[list[float]]]]
"""From a step's batch and its group advantages [P, G]: of each kept group, response and token, the advantage."""


@dataclass(frozen=True, kw_only=True)
class Control:
    """What a run has in place of its own in every update. `--resume` needs the one it began with."""

    name: str
    influence: Influence | None = None  # of policy_loss
    advantages: TokenAdvantages | None = None  # of tokens, where responses have one each otherwise
