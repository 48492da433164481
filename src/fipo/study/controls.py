"""Weights in place of FIPO's: most keep a side effect and lose the credit, so what they achieve is no credit.

The opposite, advantages of single tokens, is in token_advantages.py.
"""

import math
from dataclasses import replace

import torch
from torch import Tensor

from fipo.objective import FIPOConfig, bounded_weights, fipo_influence, future_kl, participating
from fipo.seeding import derive_seed
from fipo.study.token_advantages import (
    LearnedCritic,
    branched_truth,
    branched_truth_bounded,
    relay_truth,
    relay_truth_bounded,
)
from fipo.training.control import Control


def shuffled(log_ratio: Tensor, advantages: Tensor, loss_mask: Tensor, cfg: FIPOConfig) -> Tensor:
    """FIPO's weights, [B, T], each response's on other tokens of it: the same spread, no credit.

    The order is a function of the response's own log-ratios, so it does not depend on how a mini-batch is cut.
    """
    f = fipo_influence(log_ratio, advantages, loss_mask, cfg)
    for weights, shifts, mask in zip(f, log_ratio, loss_mask, strict=True):
        trained = shifts[mask]
        generator = torch.Generator().manual_seed(derive_seed(0, str(trained.tolist())))
        weights[mask] = weights[mask][torch.randperm(len(trained), generator=generator).to(f.device)]
    return f


def averaged(log_ratio: Tensor, advantages: Tensor, loss_mask: Tensor, cfg: FIPOConfig) -> Tensor:
    """The mean of FIPO's weights over the response, [B, T]: the step size that they add, and no credit."""
    f = fipo_influence(log_ratio, advantages, loss_mask, cfg) * loss_mask
    return (f.sum(1) / loss_mask.sum(1).clamp(min=1))[:, None].expand_as(f)


def past(log_ratio: Tensor, advantages: Tensor, loss_mask: Tensor, cfg: FIPOConfig) -> Tensor:
    """The same scan run forwards, [B, T]: each token weighted by what came before it and itself."""
    moved = participating(log_ratio, loss_mask, cfg.dual_clip)
    kl = future_kl(moved.flip(1), cfg.half_life).flip(1)
    return bounded_weights(kl, log_ratio, advantages, cfg)


def unguarded(log_ratio: Tensor, advantages: Tensor, loss_mask: Tensor, cfg: FIPOConfig) -> Tensor:
    """FIPO's weights without the participation mask and the safety threshold, [B, T] (what the paper's Fig. 2 lacks).

    The dual clip itself stays: it is of the loss, not of the weights.
    """
    return fipo_influence(log_ratio, advantages, loss_mask, replace(cfg, dual_clip=math.inf, safety_threshold=math.inf))


CONTROLS = {
    influence.__name__: Control(name=influence.__name__, influence=influence)
    for influence in (shuffled, averaged, past, unguarded)
} | {
    advantages.__name__: Control(name=advantages.__name__, advantages=advantages)
    for advantages in (relay_truth, relay_truth_bounded, branched_truth, branched_truth_bounded)
}
CONTROLS["critic"] = Control(name="critic", advantages=LearnedCritic())
