"""What one call of the loss did, measured over its loss tokens."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fipo.objective.influence import needs_safety
from fipo.objective.metrics import (
    QUANTILES,
    RATIO_BINS,
    Max,
    Mean,
    Metric,
    Min,
    RatioHistogram,
    Std,
    Sum,
    ratio_bins,
)

if TYPE_CHECKING:
    from fipo.objective.types import LossOutput

TINY_RATIO = 1e-3  # a token that the policy all but gave up although it was rewarded

# How to build a metric from numbers that are still on the device.
_Pending = tuple[Callable[..., Metric], tuple[Tensor, ...]]


@torch.no_grad()
def loss_metrics(out: "LossOutput") -> dict[str, Metric]:
    """The released code's statistics, as metrics that merge. Computed here, with one wait for the device.

    Over ALL loss tokens, those of filtered sequences included; a share is a fraction of them too.

    policy/loss                          total / weight: the loss of the mini-batch after merging
    policy/kl                            mean of -log_ratio: KL(old || new) by its plain estimator
    policy/clip_fraction                 the PPO clip changed the loss: max(l1, l2) is l2. Split in
                                         _high (A > 0, ratio above) and _low (A < 0, ratio below)
    policy/dual_clip_fraction            the dual clip stopped the token
    policy/filtered_sequences            sequences that the filter left out (a count)
    policy/ratio_pos, policy/ratio_neg   quantiles of the ratio where A > 0, where A < 0
    policy/ratio_pos/share_tiny          A > 0, ratio < 0.001
    policy/ratio_neg/share_2_3, _3_4, _4_dual   A < 0, ratio in (2, 3], (3, 4], (4, dual_clip]
    fipo/influence_weight                f as used: mean, std, min, max
    fipo/raw_influence_weight            exp(future_kl) before any bound: mean, std, min, max
    fipo/influence_weight/clipped_high, _low    raw weight outside the bound, so that f is the bound.
                                         A raw weight of 1 under (1, 1.2) is not clipped
    fipo/safety_capped                   the safety rule changed f

    With `policy_loss(influence=...)` the raw weight and the last three shares are FIPO's own.
    """
    pending = {**_policy_metrics(out), **_ratio_metrics(out), **_influence_metrics(out)}
    return _fetch(pending, _wide(out.log_ratio))


def _policy_metrics(out: "LossOutput") -> dict[str, _Pending]:
    cfg, over = out.config, _Over(out.loss_mask)
    weighted = out.advantages * out.influence_weights
    high = (weighted > 0) & (out.ratio > 1 + cfg.clip_high)
    low = (weighted < 0) & (out.ratio < 1 - cfg.clip_low)
    dropped = out.loss_mask.any(dim=1) & ~out.kept.any(dim=1)
    return {
        "policy/loss": (Mean, (out.total, out.weight)),
        "policy/kl": over.mean(-out.log_ratio),
        "policy/clip_fraction": over.share(high | low),
        "policy/clip_fraction_high": over.share(high),
        "policy/clip_fraction_low": over.share(low),
        "policy/dual_clip_fraction": over.share(out.dual_clipped),
        "policy/filtered_sequences": (Sum, (dropped.sum(),)),
    }


def _influence_metrics(out: "LossOutput") -> dict[str, _Pending]:
    over = _Over(out.loss_mask)
    wide = _wide(out.future_kl)
    # exp beyond this would overflow when squared and summed for the std: such a value only says "huge".
    limit = math.log(torch.finfo(wide).max) / 3
    raw = out.future_kl.to(wide).clamp(-limit, limit).exp()
    low, high = out.config.influence_bounds
    bounded = raw.clamp(low, high)
    unsafe = needs_safety(out.log_ratio, out.advantages, out.config)
    capped = unsafe & ((bounded > 1) | (bounded < out.config.safety_floor))
    return {
        **over.spread("fipo/influence_weight", out.influence_weights),
        **over.spread("fipo/raw_influence_weight", raw),
        "fipo/influence_weight/clipped_high": over.share((raw > high) & ~capped),
        "fipo/influence_weight/clipped_low": over.share((raw < low) & ~capped),
        "fipo/safety_capped": over.share(capped),
    }


def _ratio_metrics(out: "LossOutput") -> dict[str, _Pending]:
    over, ratio = _Over(out.loss_mask), out.ratio
    positive, negative = out.advantages > 0, out.advantages < 0  # advantages are 0 off the mask
    bins = ratio_bins(out.log_ratio)

    def between(low: float, high: float) -> _Pending:
        return over.share(negative & (ratio > low) & (ratio <= high))

    return {
        "policy/ratio_pos": _histogram(out.log_ratio, bins, positive, tuple(QUANTILES)),
        "policy/ratio_neg": _histogram(out.log_ratio, bins, negative, ("p75", "p995", "p999", "max")),
        "policy/ratio_pos/share_tiny": over.share(positive & (ratio < TINY_RATIO)),
        "policy/ratio_neg/share_2_3": between(2, 3),
        "policy/ratio_neg/share_3_4": between(3, 4),
        "policy/ratio_neg/share_4_dual": between(4, out.config.dual_clip),
    }


class _Over:
    """Statistics over the True tokens of a mask, left on the device."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask
        self.count = mask.sum()

    def mean(self, x: Tensor) -> _Pending:
        return Mean, (self._sum(x), self.count)

    def share(self, event: Tensor) -> _Pending:
        return Mean, ((event & self.mask).sum(), self.count)

    def max(self, x: Tensor) -> _Pending:
        return Max, (x.masked_fill(~self.mask, -math.inf).amax() if x.numel() else x.new_tensor(-math.inf),)

    def min(self, x: Tensor) -> _Pending:
        return Min, (x.masked_fill(~self.mask, math.inf).amin() if x.numel() else x.new_tensor(math.inf),)

    def std(self, x: Tensor) -> _Pending:
        mean = self._sum(x) / self.count.clamp(min=1)
        return Std, (self.count, mean, self._sum((x.to(mean.dtype) - mean).square()))

    def spread(self, name: str, x: Tensor) -> dict[str, _Pending]:
        return {f"{name}/{key}": getattr(self, key)(x) for key in ("mean", "std", "min", "max")}

    def _sum(self, x: Tensor) -> Tensor:
        return torch.where(self.mask, x, 0.0).sum(dtype=_wide(x))


def _histogram(log_ratio: Tensor, bins: Tensor, mask: Tensor, quantiles: tuple[str, ...]) -> _Pending:
    """The ratio's distribution over a mask. Integer counts: no order of additions can change them."""
    counts = torch.zeros(RATIO_BINS, dtype=torch.int64, device=bins.device)
    counts.scatter_add_(0, bins.flatten(), mask.to(torch.int64).flatten())
    over = _Over(mask)
    (_, smallest), (_, largest) = over.min(log_ratio), over.max(log_ratio)

    def build(counts: tuple[float, ...], smallest: float, largest: float) -> RatioHistogram:
        return RatioHistogram(counts, Min(smallest), Max(largest), quantiles)

    return build, (counts, *smallest, *largest)


def _wide(x: Tensor) -> torch.dtype:
    """float64, where the device has it."""
    return torch.float32 if x.device.type == "mps" else torch.float64


def _fetch(pending: dict[str, _Pending], dtype: torch.dtype) -> dict[str, Metric]:
    """Build all metrics with a single transfer from the device."""
    tensors = [tensor for _, parts in pending.values() for tensor in parts]
    fetched: list[float] = torch.cat([tensor.reshape(-1).to(dtype) for tensor in tensors]).tolist()
    numbers = iter(fetched)

    def take(tensor: Tensor) -> float | tuple[float, ...]:
        if tensor.dim() == 0:
            return next(numbers)
        return tuple(next(numbers) for _ in range(tensor.numel()))

    return {name: build(*map(take, parts)) for name, (build, parts) in pending.items()}
