"""PPO's clip with DAPO's two bounds and the dual clip."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fipo.objective.config import FIPOConfig
from fipo.objective.surrogates.base import Surrogate, Tokens


@dataclass(frozen=True, kw_only=True)
class Clipped(Surrogate):
    """l1 = -A~ r;  l2 = -A~ clamp(r, 1 - clip_low, 1 + clip_high);  l = max(l1, l2);  where A~ < 0: l = min(l, -A~ c).

    Its knobs are those of `FIPOConfig`: clip_low, clip_high, dual_clip c and max_dual_clipped_tokens.
    Source: PPO 1707.06347, clip-higher DAPO 2503.14476, dual clip 1912.09729.
    """

    name: ClassVar[str] = "clipped"

    def losses(self, tokens: Tokens, cfg: FIPOConfig) -> Tensor:
        return torch.minimum(*_clipped_and_cap(tokens, cfg))

    def held_back(self, tokens: Tokens, cfg: FIPOConfig) -> tuple[Tensor, Tensor]:
        high = (tokens.advantages > 0) & (tokens.ratio > 1 + cfg.clip_high)
        low = (tokens.advantages < 0) & (tokens.ratio < 1 - cfg.clip_low)
        return high, low

    def dual_clipped(self, tokens: Tokens, cfg: FIPOConfig) -> Tensor:
        clipped, cap = _clipped_and_cap(tokens, cfg)
        return clipped > cap  # never off the mask, where the advantage is 0 and so the cap inf


def _clipped_and_cap(tokens: Tokens, cfg: FIPOConfig) -> tuple[Tensor, Tensor]:
    """(max(l1, l2), the dual clip's cap on it), [B, T]."""
    l1 = -tokens.advantages * tokens.ratio
    l2 = -tokens.advantages * tokens.ratio.clamp(1 - cfg.clip_low, 1 + cfg.clip_high)
    cap = torch.where(tokens.advantages < 0, -tokens.advantages * cfg.dual_clip, math.inf)
    return torch.maximum(l1, l2), cap
