"""Other weights or advantages in place of FIPO's, so that a study can tell credit from its side effects."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from fipo.objective import Influence
from fipo.rollout.groups import GroupBatch

if TYPE_CHECKING:
    from fipo.training.trainer import Trainer

TokenAdvantages = Callable[["Trainer", GroupBatch, Tensor], list[list[list[float]]]]
"""Before a step's updates, of its batch and group advantages [P, G]: the advantage of each kept group, response and
token."""


@dataclass(frozen=True, kw_only=True)
class Control:
    """What a run has in place of its own in every update. `--resume` needs the one it began with."""

    name: str
    influence: Influence | None = None  # of policy_loss
    advantages: TokenAdvantages | None = None  # of tokens, where responses have one each otherwise
