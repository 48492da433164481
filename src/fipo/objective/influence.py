"""From log-ratios to influence weights: steps 2 to 5 of the objective, one small function each.

`fipo_influence` is the composition. Any other `Influence` can take its place, built from the same pieces.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from fipo.objective.config import FIPOConfig
from fipo.objective.future_kl import future_kl
from fipo.objective.types import ArrayLike, as_mask


class Influence(Protocol):
    """Gives the weight f of each token's advantage; what `policy_loss(influence=...)` takes.

    log_ratio [B, T]: clamped to +-20, 0 where the mask is False. advantages [B, T]: 0 there too.
    loss_mask [B, T] bool. Returns f [B, T]; its values off the mask are not read. Everything is detached
    and the call runs without a graph. To keep the loss independent of how a mini-batch is cut, a row of f
    should depend on that row alone.

    >>> def only_last_tokens(log_ratio, advantages, loss_mask, cfg):
    ...     return loss_mask & (loss_mask.flip(1).cumsum(1).flip(1) == 1)
    >>> mask = torch.tensor([[True, True, False]])
    >>> only_last_tokens(torch.zeros(1, 3), torch.ones(1, 3), mask, FIPOConfig())
    tensor([[False,  True, False]])
    """

    def __call__(self, log_ratio: Tensor, advantages: Tensor, loss_mask: Tensor, cfg: FIPOConfig, /) -> Tensor: ...


def participating(log_ratio: ArrayLike, loss_mask: ArrayLike, dual_clip: float) -> Tensor:
    """M_k * log_ratio_k with M_k = loss_mask & (ratio <= dual_clip), whatever the advantage's sign.

    Shapes: [B, T], loss_mask of bool or of 0 and 1. Source: FIPO 2603.19835, Eq. 4.

    >>> participating([[0.5, 3.0, 0.1]], [[1, 1, 0]], dual_clip=10.0)
    tensor([[0.5000, 0.0000, 0.0000]])
    """
    log_ratio, loss_mask = torch.as_tensor(log_ratio), as_mask(loss_mask)
    return torch.where(loss_mask & (log_ratio <= math.log(dual_clip)), log_ratio, 0.0)


def influence_kl(log_ratio: ArrayLike, loss_mask: ArrayLike, cfg: FIPOConfig) -> Tensor:
    """The future KL of the participating tokens, [B, T]. Source: FIPO 2603.19835, Eq. 4.

    Shapes: [B, T], loss_mask of bool or of 0 and 1.

    >>> influence_kl([[0.0, 0.5]], [[1, 1]], FIPOConfig(half_life=1.0))
    tensor([[0.2500, 0.5000]])
    """
    return future_kl(participating(log_ratio, loss_mask, cfg.dual_clip), cfg.half_life)


def needs_safety(log_ratio: Tensor, advantages: Tensor, cfg: FIPOConfig) -> Tensor:
    """Where a large update against a negative advantage must not be amplified, [B, T] bool."""
    return (advantages < 0) & (log_ratio > math.log(cfg.safety_threshold))


def bounded_weights(kl: ArrayLike, log_ratio: ArrayLike, advantages: ArrayLike, cfg: FIPOConfig) -> Tensor:
    """f = clamp(exp(kl), low, high); where the safety rule applies, f = clamp(f, safety_floor, 1).

    Shapes: [B, T]. Source: FIPO 2603.19835, Eq. 5-6; the paper has safety_floor 1, the released code 0.8.

    >>> bounded_weights([[0.1, 1.0, 1.0]], [[0.0, 0.0, 3.0]], [[1.0, 1.0, -1.0]], FIPOConfig.release_32b())
    tensor([[1.1052, 1.2000, 1.0000]])
    """
    kl, log_ratio, advantages = (torch.as_tensor(value) for value in (kl, log_ratio, advantages))
    f = kl.exp().clamp(*cfg.influence_bounds)
    return torch.where(needs_safety(log_ratio, advantages, cfg), f.clamp(cfg.safety_floor, 1.0), f)


def fipo_influence(log_ratio: ArrayLike, advantages: ArrayLike, loss_mask: ArrayLike, cfg: FIPOConfig) -> Tensor:
    """The weights of FIPO, [B, T]: the default of `policy_loss`, as an `Influence`.

    Shapes: [B, T], loss_mask of bool or of 0 and 1.

    >>> fipo_influence([[0.0, 0.1]], [[1.0, 1.0]], [[1, 1]], FIPOConfig(half_life=1.0))
    tensor([[1.0513, 1.1052]])
    """
    return bounded_weights(influence_kl(log_ratio, loss_mask, cfg), log_ratio, advantages, cfg)
