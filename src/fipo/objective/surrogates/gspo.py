"""GSPO: one ratio for the whole response."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fipo.objective.config import Aggregation, FIPOConfig
from fipo.objective.surrogates.base import Surrogate, Tokens, check_clips

MAX_MEAN_LOG_RATIO = 10.0


@dataclass(frozen=True, kw_only=True)
class GSPO(Surrogate):
    """s = exp(min(mean_t x, 10));  s_t = sg(s) exp(logprob - sg(logprob));
    l = max(-A~ s_t, -A~ clamp(s_t, 1 - clip_low, 1 + clip_high)).

    s_t has the value of s and its own token's gradient (GSPO-token), so that A~ may differ between tokens.
    Source: GSPO 2507.18071.
    """

    clip_low: float = 3e-4
    clip_high: float = 4e-4

    name: ClassVar[str] = "gspo"
    aggregation: ClassVar[Aggregation] = "seq-mean-token-mean"

    def __post_init__(self) -> None:
        check_clips(self, "clip_low", "clip_high")

    def losses(self, tokens: Tokens, cfg: FIPOConfig) -> Tensor:
        own = tokens.logprobs - tokens.logprobs.detach()
        s = (own + tokens.mean(tokens.log_ratio.detach())).clamp(max=MAX_MEAN_LOG_RATIO).exp()
        bounded = s.clamp(1 - self.clip_low, 1 + self.clip_high)
        return torch.maximum(-tokens.advantages * s, -tokens.advantages * bounded)

    def held_back(self, tokens: Tokens, cfg: FIPOConfig) -> tuple[Tensor, Tensor]:
        s = tokens.mean(tokens.log_ratio).exp()
        return (tokens.advantages > 0) & (s > 1 + self.clip_high), (tokens.advantages < 0) & (s < 1 - self.clip_low)
