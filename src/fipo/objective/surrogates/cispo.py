"""CISPO: the ratio is a bounded constant, and every token keeps its gradient."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fipo.objective.config import FIPOConfig
from fipo.objective.surrogates.base import Surrogate, Tokens, check_clips, weighted_log_likelihood


@dataclass(frozen=True, kw_only=True)
class CISPO(Surrogate):
    """l = -A~ sg(clamp(r, 1 - clip_low, 1 + clip_high)) logprob.

    clip_low >= 1 is no lower bound, as in the paper.
    Source: CISPO 2506.13585.
    """

    clip_low: float = 1.0
    clip_high: float = 0.28

    name: ClassVar[str] = "cispo"

    def __post_init__(self) -> None:
        check_clips(self, "clip_low", "clip_high")

    def losses(self, tokens: Tokens, cfg: FIPOConfig) -> Tensor:
        return weighted_log_likelihood(tokens, tokens.ratio.clamp(1 - self.clip_low, 1 + self.clip_high))

    def held_back(self, tokens: Tokens, cfg: FIPOConfig) -> tuple[Tensor, Tensor]:
        return tokens.ratio > 1 + self.clip_high, tokens.ratio < 1 - self.clip_low
