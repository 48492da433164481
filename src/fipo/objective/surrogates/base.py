"""What a surrogate is: it turns ratios and weighted advantages into the loss of each token."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fipo.objective.config import Aggregation, FIPOConfig, check_number
from fipo.objective.types import LossInputs


@dataclass(frozen=True, kw_only=True, eq=False)
class Tokens:
    """What a surrogate sees of a batch: B responses of up to T tokens, 0 where the mask is False. Shapes: [B, T].

    >>> from fipo.objective import algorithm, policy_loss
    >>> def reinforce(tokens: Tokens, cfg: FIPOConfig) -> Tensor:
    ...     return -tokens.advantages * tokens.logprobs
    >>> inputs = LossInputs(logprobs=[[-1.0, -2.0]], old_logprobs=[[-1.0, -2.0]], advantages=[1.0], loss_mask=[[1, 1]])
    >>> policy_loss(inputs, algorithm("dapo", surrogate=reinforce, max_dual_clipped_tokens="off")).loss
    tensor(1.5000)
    """

    inputs: LossInputs
    log_ratio: Tensor  # [B, T] x = logprobs - old_logprobs, clamped to +-20, with the graph
    ratio: Tensor  # [B, T] r = exp(x), with the graph
    advantages: Tensor  # [B, T] A~ = A f, constants

    @property
    def loss_mask(self) -> Tensor:
        """[B, T] bool, True = trained token."""
        return self.inputs.loss_mask

    @property
    def logprobs(self) -> Tensor:
        """[B, T] with the graph."""
        return torch.where(self.loss_mask, self.inputs.logprobs.to(self.log_ratio.dtype), 0.0)

    @property
    def old_logprobs(self) -> Tensor:
        """[B, T] constants."""
        return torch.where(self.loss_mask, self.inputs.old_logprobs.detach().to(self.log_ratio.dtype), 0.0)

    def mean(self, x: Tensor) -> Tensor:
        """[B, 1] the mean of x [B, T], which is 0 off the mask, over each response's tokens; 0 without any."""
        return x.sum(dim=1, keepdim=True) / self.loss_mask.sum(dim=1, keepdim=True).clamp(min=1)


@dataclass(frozen=True, kw_only=True)
class Surrogate(ABC):
    """The loss of each token. The fields of a subclass are its knobs, checked at construction.

    `losses` is the equation, [B, T]. To keep a mini-batch's gradient independent of how it is cut, a row of it should
    depend on that row of `tokens` alone. What it gives off the mask is not read.

    >>> from fipo.objective import SURROGATES
    >>> [surrogate.name for surrogate in SURROGATES][:2]
    ['gspo', 'sapo']
    """

    name: ClassVar[str]  # of its preset
    aggregation: ClassVar[Aggregation] = "token-mean"  # of its preset: what its paper does

    @abstractmethod
    def losses(self, tokens: Tokens, cfg: FIPOConfig) -> Tensor:
        """l of each token, [B, T], with the graph. cfg: the knobs of the weights, and of `clipped`."""

    def held_back(self, tokens: Tokens, cfg: FIPOConfig) -> tuple[Tensor, Tensor] | None:
        """Where its bound on the ratio is active, [B, T] bool: (as the token gets likelier, less likely).

        None: it has no such bound, and its runs no policy/clip_fraction.
        """
        return None

    def dual_clipped(self, tokens: Tokens, cfg: FIPOConfig) -> Tensor | None:
        """Where the dual clip stopped the token, [B, T] bool; None: it has no dual clip, and no sequence filter."""
        return None


def weighted_log_likelihood(tokens: Tokens, weight: Tensor) -> Tensor:
    """-A~ sg(weight) logprob: REINFORCE with a weight for each token, [B, T]."""
    return -tokens.advantages * weight.detach() * tokens.logprobs


def check_clips(surrogate: object, *names: str) -> None:
    """Raise ValueError unless these fields are numbers >= 0."""
    for name in names:
        check_number(name, getattr(surrogate, name), ">= 0", lambda v: v >= 0)


def check_positive(surrogate: object, *names: str) -> None:
    """Raise ValueError unless these fields are finite numbers > 0."""
    for name in names:
        check_number(name, getattr(surrogate, name), "> 0 and finite", lambda v: 0 < v < math.inf)
