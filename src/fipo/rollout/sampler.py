"""What a sampler takes and gives. The trainer knows samplers by this protocol alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    temperature: float  # 0 = greedy
    top_p: float = 1.0  # keep the smallest set of tokens with at least this probability
    max_tokens: int  # longest response, stop token included


@dataclass(frozen=True, kw_only=True)
class Response:
    tokens: list[int]  # the stop token is the last one, unless truncated
    logprobs: list[float]  # of each token under softmax(logits / temperature), before top-p; T = 1 if greedy
    truncated: bool  # max_tokens came before a stop token


class Sampler(Protocol):
    def sample(self, prompts: Sequence[list[int]], params: SamplingParams, seed: int) -> list[Response]:
        """One response per prompt, in order: the same ones for the same seed, weights and prompts."""
        ...
