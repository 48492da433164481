"""From log-ratios to influence weights: steps 2 to 5 of the objective, one small function each.

`fipo_influence` is the composition. Any other `Influence` can take its place, built from the same pieces.
"""

import math
from typing import Protocol

import torch
from torch import Tensor

from fipo.objective.config import FIPOConfig
from fipo.objective.future_kl import future_kl


class Influence(Protocol):
    """Gives the weight f of each token's advantage; what `policy_loss(influence=...)` takes.

    log_ratio [B, T]: clamped to +-20, 0 where the mask is False. advantages [B, T]: 0 there too.
    loss_mask [B, T] bool. Returns f [B, T]; its values off the mask are not read. Everything is detached
    and the call runs without a graph. To keep the loss independent of how a mini-batch is cut, a row of f
    should depend on that row alone.
    """

    def __call__(self, log_ratio: Tensor, advantages: Tensor, loss_mask: Tensor, cfg: FIPOConfig, /) -> Tensor: ...


def participating(log_ratio: Tensor, loss_mask: Tensor, dual_clip: float) -> Tensor:
    """M_k * log_ratio_k with M_k = loss_mask & (ratio <= dual_clip), whatever the advantage's sign.

    Shapes: [B, T]. Source: FIPO 2603.19835, Eq. 4.
    """
    return torch.where(loss_mask & (log_ratio <= math.log(dual_clip)), log_ratio, 0.0)


def influence_kl(log_ratio: Tensor, loss_mask: Tensor, cfg: FIPOConfig) -> Tensor:
    """The future KL of the participating tokens, [B, T]. Source: FIPO 2603.19835, Eq. 4."""
    return future_kl(participating(log_ratio, loss_mask, cfg.dual_clip), cfg.half_life)


def needs_safety(log_ratio: Tensor, advantages: Tensor, cfg: FIPOConfig) -> Tensor:
    """Where a large update against a negative advantage must not be amplified, [B, T] bool."""
    return (advantages < 0) & (log_ratio > math.log(cfg.safety_threshold))


def bounded_weights(kl: Tensor, log_ratio: Tensor, advantages: Tensor, cfg: FIPOConfig) -> Tensor:
    """f = clamp(exp(kl), low, high); where the safety rule applies, f = clamp(f, safety_floor, 1).

    Shapes: [B, T]. Source: FIPO 2603.19835, Eq. 5-6; the paper has safety_floor 1, the released code 0.8.
    """
    f = kl.exp().clamp(*cfg.influence_bounds)
    return torch.where(needs_safety(log_ratio, advantages, cfg), f.clamp(cfg.safety_floor, 1.0), f)


def fipo_influence(log_ratio: Tensor, advantages: Tensor, loss_mask: Tensor, cfg: FIPOConfig) -> Tensor:
    """The weights of FIPO, [B, T]: the default of `policy_loss`, as an `Influence`."""
    return bounded_weights(influence_kl(log_ratio, loss_mask, cfg), log_ratio, advantages, cfg)
