"""What one call of the loss did, measured over its loss tokens."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fipo.objective.config import FIPOConfig
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
    from fipo.objective.types import LossOutput, TokenFields

TINY_RATIO = 1e-3  # a token that the policy all but gave up although it was rewarded

# Events whose share of the loss tokens is a metric, described in `loss_metrics`.
EVENTS = (
    "policy/clip_fraction_high",
    "policy/clip_fraction_low",
    "policy/dual_clip_fraction",
    "policy/ratio_pos/share_tiny",
    "policy/ratio_neg/share_2_3",
    "policy/ratio_neg/share_3_4",
    "policy/ratio_neg/share_4_dual",
    "fipo/safety_capped",
    "fipo/influence_weight/clipped_high",
    "fipo/influence_weight/clipped_low",
)

# How to build a metric from numbers that are still on the device.
_Pending = tuple[Callable[..., Metric], tuple[Tensor, ...]]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A quantity over the loss tokens."""

    total: Tensor  # []
    squares: Tensor  # [] sum of (x - mean)^2
    smallest: Tensor  # [] inf over nothing
    largest: Tensor  # [] -inf over nothing


@dataclass(frozen=True, kw_only=True)
class Ratios:
    """The distribution of log_ratio over the loss tokens of one sign of the advantage."""

    counts: Tensor  # [RATIO_BINS] int64
    smallest: Tensor  # [] inf over nothing
    largest: Tensor  # [] -inf over nothing


@dataclass(frozen=True, kw_only=True)
class TokenSums:
    """All that the metrics need of the tokens, on the device. Sums and extremes are float64, where it has that."""

    tokens: Tensor  # [] int64, loss tokens
    events: Mapping[str, Tensor]  # [] int64 each, how often each of EVENTS happened
    log_ratio: Tensor  # [] sum
    weights: Spread  # f as used
    raw_weights: Spread  # exp(future_kl) before any bound
    positive: Ratios  # A > 0
    negative: Ratios  # A < 0


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
    policy/reference_kl                  mean of kl_penalty, where there is a reference

    With `policy_loss(influence=...)` the raw weight and the last three shares are FIPO's own.
    """
    sums = out.rows.sums()
    filtered = ((out.rows.tokens > 0) & ~out.kept_rows).sum()
    high, low = (sums.events[f"policy/clip_fraction_{side}"] for side in ("high", "low"))
    pending: dict[str, _Pending] = {
        "policy/loss": (Mean, (out.total, out.weight)),
        "policy/kl": (Mean, (-sums.log_ratio, sums.tokens)),
        "policy/clip_fraction": (Mean, (high + low, sums.tokens)),
        "policy/filtered_sequences": (Sum, (filtered,)),
        **{name: (Mean, (sums.events[name], sums.tokens)) for name in EVENTS},
        "policy/ratio_pos": _histogram(sums.positive, tuple(QUANTILES)),
        "policy/ratio_neg": _histogram(sums.negative, ("p75", "p995", "p999", "max")),
        **_spread("fipo/influence_weight", sums.weights, sums.tokens),
        **_spread("fipo/raw_influence_weight", sums.raw_weights, sums.tokens),
    }
    if out.reference_kl is not None:
        pending["policy/reference_kl"] = (Mean, (out.reference_kl, sums.tokens))
    return _fetch(pending, sums.log_ratio.dtype)


def _spread(name: str, x: Spread, count: Tensor) -> dict[str, _Pending]:
    return {
        f"{name}/mean": (Mean, (x.total, count)),
        f"{name}/std": (Std, (count, x.total / count.clamp(min=1), x.squares)),
        f"{name}/min": (Min, (x.smallest,)),
        f"{name}/max": (Max, (x.largest,)),
    }


def _histogram(ratios: Ratios, quantiles: tuple[str, ...]) -> _Pending:
    def build(counts: tuple[float, ...], smallest: float, largest: float) -> RatioHistogram:
        return RatioHistogram(counts, Min(smallest), Max(largest), quantiles)

    return build, (ratios.counts, ratios.smallest, ratios.largest)


@torch.no_grad()
def token_sums(fields: "TokenFields", loss_mask: Tensor, cfg: FIPOConfig) -> TokenSums:
    """The sums of a batch from its per-token fields, [B, T] each."""
    wide = _wide(fields.future_kl)
    raw = _raw_weights(fields)
    return TokenSums(
        tokens=loss_mask.sum(),
        events={name: (event & loss_mask).sum() for name, event in token_events(fields, cfg).items()},
        log_ratio=torch.where(loss_mask, fields.log_ratio, 0.0).sum(dtype=wide),
        weights=_spread_of(fields.influence_weights.to(wide), loss_mask),
        raw_weights=_spread_of(raw, loss_mask),
        positive=_ratios_of(fields.log_ratio, fields.advantages > 0),  # advantages are 0 off the mask
        negative=_ratios_of(fields.log_ratio, fields.advantages < 0),
    )


def max_future_kl(dtype: torch.dtype) -> float:
    """exp beyond this would overflow when squared and summed for the std: such a value only says "huge"."""
    return math.log(torch.finfo(dtype).max) / 3


def _raw_weights(fields: "TokenFields") -> Tensor:
    wide = _wide(fields.future_kl)
    return fields.future_kl.to(wide).clamp(-max_future_kl(wide), max_future_kl(wide)).exp()


def token_events(fields: "TokenFields", cfg: FIPOConfig) -> dict[str, Tensor]:
    """Where each of EVENTS happened, bool of the fields' shape; what they say off the mask means nothing."""
    raw, ratio, positive, negative = _raw_weights(fields), fields.ratio, fields.advantages > 0, fields.advantages < 0
    weighted = fields.advantages * fields.influence_weights
    low, high = cfg.influence_bounds
    bounded = raw.clamp(low, high)
    unsafe = needs_safety(fields.log_ratio, fields.advantages, cfg)
    capped = unsafe & ((bounded > 1) | (bounded < cfg.safety_floor))
    return {
        "policy/clip_fraction_high": (weighted > 0) & (ratio > 1 + cfg.clip_high),
        "policy/clip_fraction_low": (weighted < 0) & (ratio < 1 - cfg.clip_low),
        "policy/dual_clip_fraction": fields.dual_clipped,
        "policy/ratio_pos/share_tiny": positive & (ratio < TINY_RATIO),
        "policy/ratio_neg/share_2_3": negative & (ratio > 2) & (ratio <= 3),
        "policy/ratio_neg/share_3_4": negative & (ratio > 3) & (ratio <= 4),
        "policy/ratio_neg/share_4_dual": negative & (ratio > 4) & (ratio <= cfg.dual_clip),
        "fipo/influence_weight/clipped_high": (raw > high) & ~capped,
        "fipo/influence_weight/clipped_low": (raw < low) & ~capped,
        "fipo/safety_capped": capped,
    }


def _spread_of(x: Tensor, mask: Tensor) -> Spread:
    total = torch.where(mask, x, 0.0).sum()
    deviation = torch.where(mask, x - total / mask.sum().clamp(min=1), 0.0)
    return Spread(total=total, squares=deviation.square().sum(), smallest=_min(x, mask), largest=_max(x, mask))


def _ratios_of(log_ratio: Tensor, mask: Tensor) -> Ratios:
    """Integer counts: no order of additions can change them."""
    counts = torch.zeros(RATIO_BINS, dtype=torch.int64, device=log_ratio.device)
    counts.scatter_add_(0, ratio_bins(log_ratio).flatten(), mask.to(torch.int64).flatten())
    return Ratios(counts=counts, smallest=_min(log_ratio, mask), largest=_max(log_ratio, mask))


def _min(x: Tensor, mask: Tensor) -> Tensor:
    return x.masked_fill(~mask, math.inf).amin() if x.numel() else x.new_tensor(math.inf)


def _max(x: Tensor, mask: Tensor) -> Tensor:
    return -_min(-x, mask)


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
