"""DPPO with the total variation of "this token or another": the trust region is of probabilities, not of ratios."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fipo.objective.config import FIPOConfig
from fipo.objective.surrogates.base import Surrogate, Tokens, check_clips, check_positive, weighted_log_likelihood


@dataclass(frozen=True, kw_only=True)
class DPPOTV(Surrogate):
    """l = -A~ sg(min(r, ratio_cap)) logprob where the token is valid, else 0.

    Valid, with p = exp(logprob): p - p_old <= clip_high where A~ > 0, p - p_old >= -clip_low elsewhere.
    Source: DPPO 2602.04879, its binary total variation.
    """

    clip_low: float = 0.15  # of the divergence
    clip_high: float = 0.15
    ratio_cap: float = 20.0

    name: ClassVar[str] = "dppo_tv"

    def __post_init__(self) -> None:
        check_clips(self, "clip_low", "clip_high")
        check_positive(self, "ratio_cap")

    def losses(self, tokens: Tokens, cfg: FIPOConfig) -> Tensor:
        weight = torch.where(self.valid(tokens), tokens.ratio.clamp(max=self.ratio_cap), 0.0)
        return weighted_log_likelihood(tokens, weight)

    def valid(self, tokens: Tokens) -> Tensor:
        """Where the token is inside the trust region, or on its way back into it, [B, T] bool."""
        shift = tokens.logprobs.exp() - tokens.old_logprobs.exp()
        return torch.where(tokens.advantages > 0, shift <= self.clip_high, shift >= -self.clip_low)

    def held_back(self, tokens: Tokens, cfg: FIPOConfig) -> tuple[Tensor, Tensor]:
        invalid = ~self.valid(tokens)
        return invalid & (tokens.advantages > 0), invalid & (tokens.advantages < 0)
