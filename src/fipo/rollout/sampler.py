"""What a sampler takes and gives. The trainer knows samplers by this protocol alone."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isfinite
from typing import Protocol

import torch

from fipo.errors import RunStopped
from fipo.seeding import derive_seed

Seed = int | Sequence[int]  # one for a call, or one for each prompt, whatever the others are


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    temperature: float  # 0 = greedy
    top_p: float = 1.0  # keep the smallest set of tokens with at least this probability
    top_k: int = 0  # before that, keep this many tokens; 0 = all
    max_tokens: int  # longest response, stop token included

    @classmethod
    def greedy(cls, max_tokens: int) -> "SamplingParams":
        return cls(temperature=0.0, max_tokens=max_tokens)

    def of(self, words: int) -> "SamplingParams":
        """The same for a model of so many words: without a `top_k` that would keep all of them."""
        return replace(self, top_k=0) if self.top_k >= words else self


@dataclass(frozen=True, kw_only=True)
class Response:
    tokens: list[int]  # the stop token is the last one, unless truncated
    logprobs: list[float]  # of each token under the policy, softmax(logits / temperature); T = 1 if greedy
    truncated: bool  # max_tokens came before a stop token


class Sampler(Protocol):
    def sample(self, prompts: Sequence[list[int]], params: SamplingParams, seed: Seed) -> list[Response]:
        """One response per prompt, in order: the same ones for the same seed, weights and prompts."""
        ...

    def release(self) -> None:
        """Give back what memory is held between two calls."""
        ...


def uniforms_of(seed: Seed, index: int, count: int) -> list[float]:
    """The random numbers in [0, 1) of response number `index`, whatever is sampled beside it."""
    own = derive_seed(seed, "noise", index) if isinstance(seed, int) else seed[index]
    generator = torch.Generator().manual_seed(own)
    return torch.rand(count, generator=generator, dtype=torch.float64).tolist()


def check_finite(logprobs: Sequence[float]) -> None:
    """Raise RunStopped if a log-prob of a response is NaN or infinite."""
    if not all(map(isfinite, logprobs)):
        raise RunStopped(
            "sampling: the model's log-probs must be finite, got NaN or inf: its weights are damaged, or it is in "
            'float16, which ends at 65504 (model.dtype = "bfloat16" does not)'
        )
