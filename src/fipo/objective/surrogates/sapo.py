"""SAPO: a soft gate in place of the clip."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fipo.objective.config import Aggregation, FIPOConfig
from fipo.objective.surrogates.base import Surrogate, Tokens, check_positive


@dataclass(frozen=True, kw_only=True)
class SAPO(Surrogate):
    """l = -A~ (4 / tau) sigmoid(tau (r - 1)),  tau = tau_pos where A~ > 0, else tau_neg.

    Source: SAPO 2511.20347.
    """

    tau_pos: float = 1.0  # the larger, the faster the gradient fades as r leaves 1
    tau_neg: float = 1.05

    name: ClassVar[str] = "sapo"
    aggregation: ClassVar[Aggregation] = "seq-mean-token-mean"

    def __post_init__(self) -> None:
        check_positive(self, "tau_pos", "tau_neg")

    def losses(self, tokens: Tokens, cfg: FIPOConfig) -> Tensor:
        tau = torch.full_like(tokens.advantages, self.tau_neg).masked_fill(tokens.advantages > 0, self.tau_pos)
        return -tokens.advantages * (4 / tau) * (tau * (tokens.ratio - 1)).sigmoid()
