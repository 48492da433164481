"""What one call of the loss did, measured over its loss tokens."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from fipo.objective.config import FIPOConfig
from fipo.objective.events import raw_weights, token_events, wide
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
from fipo.objective.types import Ratios, RowLosses, Spread, TokenFields, TokenSums

CLIPPED = ("policy/clip_fraction_high", "policy/clip_fraction_low")
DUAL_CLIPPED = "policy/dual_clip_fraction"

# How to build a metric from numbers that are still on the device.
_Pending = tuple[Callable[..., Metric], tuple[Tensor, ...]]


@torch.no_grad()
def loss_metrics(
    rows: RowLosses, kept_rows: Tensor, *, total: Tensor, weight: Tensor, reference_kl: Tensor | None
) -> dict[str, Metric]:
    """The released code's statistics, as metrics that merge. Computed here, with one wait for the device.

    Over ALL loss tokens, those of filtered sequences included; a share is a fraction of them too. What the surrogate
    does not have is absent.

    policy/loss                          total / weight: the loss of the mini-batch after merging
    policy/kl                            mean of -log_ratio: KL(old || new) by its plain estimator
    policy/clip_fraction                 the bound on the ratio is active. The sum of _high and _low
    policy/filtered_sequences            sequences that the filter left out (a count)
    policy/ratio_pos, policy/ratio_neg   quantiles of the ratio where A > 0, where A < 0
    fipo/influence_weight                f as used: mean, std, min, max
    fipo/raw_influence_weight            exp(future_kl) before any bound: mean, std, min, max
    policy/reference_kl                  mean of kl_penalty, where there is a reference
    and the share of each of EVENTS      see their meanings there

    With `policy_loss(influence=...)` the raw weight and the shares under fipo/ are FIPO's own.
    """
    sums = rows.sums()
    filtered = ((rows.tokens > 0) & ~kept_rows).sum()
    clipped = [count for name, count in sums.events.items() if name in CLIPPED]
    pending: dict[str, _Pending] = {
        "policy/loss": (Mean, (total, weight)),
        "policy/kl": (Mean, (-sums.log_ratio, sums.tokens)),
        **({"policy/clip_fraction": (Mean, (clipped[0] + clipped[1], sums.tokens))} if clipped else {}),
        **({"policy/filtered_sequences": (Sum, (filtered,))} if DUAL_CLIPPED in sums.events else {}),
        **{name: (Mean, (count, sums.tokens)) for name, count in sums.events.items()},
        "policy/ratio_pos": _histogram(sums.positive, tuple(QUANTILES)),
        "policy/ratio_neg": _histogram(sums.negative, ("p75", "p995", "p999", "max")),
        **_spread("fipo/influence_weight", sums.weights, sums.tokens),
        **_spread("fipo/raw_influence_weight", sums.raw_weights, sums.tokens),
    }
    if reference_kl is not None:
        pending["policy/reference_kl"] = (Mean, (reference_kl, sums.tokens))
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
def token_sums(fields: TokenFields, loss_mask: Tensor, cfg: FIPOConfig) -> TokenSums:
    """The sums of a batch from its per-token fields, [B, T] each."""
    dtype = wide(fields.future_kl)
    return TokenSums(
        tokens=loss_mask.sum(),
        events={name: (event & loss_mask).sum() for name, event in token_events(fields, cfg).items()},
        log_ratio=torch.where(loss_mask, fields.log_ratio, 0.0).sum(dtype=dtype),
        weights=_spread_of(fields.influence_weights.to(dtype), loss_mask),
        raw_weights=_spread_of(raw_weights(fields.future_kl), loss_mask),
        positive=_ratios_of(fields.log_ratio, fields.advantages > 0),  # advantages are 0 off the mask
        negative=_ratios_of(fields.log_ratio, fields.advantages < 0),
    )


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
