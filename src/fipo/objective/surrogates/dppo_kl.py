"""DPPO with the KL divergence of "this token or another"."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fipo.objective.surrogates.base import Tokens
from fipo.objective.surrogates.dppo_tv import DPPOTV

TINY = 1e-8  # keeps the logarithm finite where a probability is 1


@dataclass(frozen=True, kw_only=True)
class DPPOKL(DPPOTV):
    """As `DPPOTV`, with k = p_old log(p_old / p) + (1 - p_old) log((1 - p_old) / (1 - p)):

    valid are, where A~ > 0, k <= clip_high or p <= p_old; elsewhere k <= clip_low or p >= p_old.
    Source: DPPO 2602.04879, its binary KL.
    """

    clip_low: float = 0.05
    clip_high: float = 0.05

    name: ClassVar[str] = "dppo_kl"

    def valid(self, tokens: Tokens) -> Tensor:
        logprobs, old_logprobs = tokens.logprobs, tokens.old_logprobs
        p, p_old = logprobs.exp(), old_logprobs.exp()
        others = (1 - p_old) * ((1 - p_old + TINY) / (1 - p + TINY)).log()
        k = p_old * (old_logprobs - logprobs) + others
        up = (k <= self.clip_high) | (p <= p_old)
        down = (k <= self.clip_low) | (p >= p_old)
        return torch.where(tokens.advantages > 0, up, down)
