"""GMPO: the geometric mean of a response's ratios, each clipped on its own."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fipo.objective.config import Aggregation, FIPOConfig
from fipo.objective.surrogates.base import Surrogate, Tokens, check_clips


@dataclass(frozen=True, kw_only=True)
class GMPO(Surrogate):
    """h_t = min(x, clamp(x, -clip_low, clip_high)) where A~ > 0, else max of the two;  g = exp(mean_t h_t);
    l = -A~ sg(g) exp(h_t - sg(h_t)).

    With one advantage for the response this is -A g and its gradient; written by token, so that A~ may differ.
    Source: GMPO 2507.20673.
    """

    clip_low: float = 0.4  # of the log-ratio
    clip_high: float = 0.4

    name: ClassVar[str] = "gmpo"
    aggregation: ClassVar[Aggregation] = "seq-mean-token-mean"

    def __post_init__(self) -> None:
        check_clips(self, "clip_low", "clip_high")

    def losses(self, tokens: Tokens, cfg: FIPOConfig) -> Tensor:
        x, bounded = tokens.log_ratio, tokens.log_ratio.clamp(-self.clip_low, self.clip_high)
        h = torch.where(tokens.advantages > 0, torch.minimum(x, bounded), torch.maximum(x, bounded))
        return -tokens.advantages * (h - h.detach() + tokens.mean(h.detach())).exp()

    def held_back(self, tokens: Tokens, cfg: FIPOConfig) -> tuple[Tensor, Tensor]:
        x = tokens.log_ratio
        return (tokens.advantages > 0) & (x > self.clip_high), (tokens.advantages < 0) & (x < -self.clip_low)
