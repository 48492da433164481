"""What can happen to a single token. One row each: the metrics, the credit and the kernels follow from this table."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fipo.objective.config import FIPOConfig
from fipo.objective.influence import needs_safety
from fipo.objective.types import TokenFields

ROUNDING = 1e-4  # a weight that a bound moves by less was not clipped: float32 rounds exp(F) by some 1e-5
TINY_RATIO = 1e-3  # a token that the policy all but gave up although it was rewarded


class Seen:
    """Per-token fields, [B, T] or [n], and what several rows ask of them."""

    def __init__(self, fields: TokenFields, cfg: FIPOConfig) -> None:
        self.fields = fields
        self.cfg = cfg
        self.low, self.high = cfg.influence_bounds

    @cached_property
    def raw(self) -> Tensor:
        return raw_weights(self.fields.future_kl)

    @cached_property
    def positive(self) -> Tensor:
        return self.fields.advantages > 0

    @cached_property
    def negative(self) -> Tensor:
        return self.fields.advantages < 0

    @cached_property
    def capped(self) -> Tensor:
        bounded = self.raw.clamp(self.low, self.high)
        unsafe = needs_safety(self.fields.log_ratio, self.fields.advantages, self.cfg)
        return unsafe & ((bounded > 1) | (bounded < self.cfg.safety_floor))

    def ratio_between(self, low: float, high: float) -> Tensor:
        return self.negative & (self.fields.ratio > low) & (self.fields.ratio <= high)


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that happens to single tokens."""

    key: str | None = None  # the metric that is its share of the loss tokens, if it is counted
    mark: str | None = None  # its name in `token_credit`, if it is marked there
    meaning: str  # A, f, r, F: advantage, influence weight, ratio and future KL of the token
    where: Callable[[Seen], Tensor | None]  # bool, of the fields' shape; None: nothing of the sort can happen


TABLE = (
    Event(
        key="policy/clip_fraction_high",
        mark="clipped_high",
        meaning="A f > 0 and r > 1 + `clip_high`",
        where=lambda seen: seen.fields.clipped_high,
    ),
    Event(
        key="policy/clip_fraction_low",
        mark="clipped_low",
        meaning="A f < 0 and r < 1 - `clip_low`",
        where=lambda seen: seen.fields.clipped_low,
    ),
    Event(
        key="policy/dual_clip_fraction",
        mark="dual_clipped",
        meaning="A f < 0 and max(l1, l2) > -A f `dual_clip`, that is r > `dual_clip`",
        where=lambda seen: seen.fields.dual_clipped,
    ),
    Event(
        key="policy/ratio_pos/share_tiny",
        meaning="A > 0 and r < 0.001",
        where=lambda seen: seen.positive & (seen.fields.ratio < TINY_RATIO),
    ),
    Event(
        key="policy/ratio_neg/share_2_3",
        meaning="A < 0 and 2 < r <= 3",
        where=lambda seen: seen.ratio_between(2, 3),
    ),
    Event(
        key="policy/ratio_neg/share_3_4",
        meaning="A < 0 and 3 < r <= 4",
        where=lambda seen: seen.ratio_between(3, 4),
    ),
    Event(
        key="policy/ratio_neg/share_4_dual",
        meaning="A < 0 and 4 < r <= `dual_clip`",
        where=lambda seen: None if seen.fields.dual_clipped is None else seen.ratio_between(4, seen.cfg.dual_clip),
    ),
    Event(
        key="fipo/safety_capped",
        mark="safety_capped",
        meaning="A < 0 and r > `safety_threshold` whose weight that rule changed: clamp(exp(F), low, high) lay outside "
        "[`safety_floor`, 1]",
        where=lambda seen: seen.capped,
    ),
    Event(
        key="fipo/influence_weight/clipped_high",
        mark="weight_clipped_high",
        meaning="exp(F) > high by more than 0.0001, so that f is the bound, outside `fipo/safety_capped`",
        where=lambda seen: (seen.raw > seen.high + ROUNDING) & ~seen.capped,
    ),
    Event(
        key="fipo/influence_weight/clipped_low",
        mark="weight_clipped_low",
        meaning="exp(F) < low by more than 0.0001, so that f is the bound, outside `fipo/safety_capped`; a natural 1 "
        "under (1, 1.2), rounded or not, is not counted",
        where=lambda seen: (seen.raw < seen.low - ROUNDING) & ~seen.capped,
    ),
    Event(
        mark="not_summed",
        meaning="r > `dual_clip`: no future KL counts the token's shift",
        where=lambda seen: seen.fields.log_ratio > math.log(seen.cfg.dual_clip),
    ),
)
EVENTS = {event.key: event for event in TABLE if event.key is not None}
MARKS = {event.mark: event for event in TABLE if event.mark is not None}

# What the kernel counts in each chunk of tokens, in its order.
COUNTS = ("tokens", *EVENTS, "unmoved_positive", "unmoved_negative")


def token_events(fields: TokenFields, cfg: FIPOConfig) -> dict[str, Tensor]:
    """Where each of EVENTS happened that can, bool of the fields' shape; what they say off the mask means nothing."""
    return _happened(EVENTS, Seen(fields, cfg))


def token_marks(fields: TokenFields, cfg: FIPOConfig) -> dict[str, Tensor]:
    """The same of MARKS."""
    return _happened(MARKS, Seen(fields, cfg))


def _happened(events: Mapping[str, Event], seen: Seen) -> dict[str, Tensor]:
    found = {name: event.where(seen) for name, event in events.items()}
    return {name: where for name, where in found.items() if where is not None}


def raw_weights(future_kl: Tensor) -> Tensor:
    """exp(future_kl) before any bound, float64 where the device has it, but finite."""
    dtype = wide(future_kl)
    return future_kl.to(dtype).clamp(-max_future_kl(dtype), max_future_kl(dtype)).exp()


def max_future_kl(dtype: torch.dtype) -> float:
    """exp beyond this would overflow when squared and summed for the std: such a value only says "huge"."""
    return math.log(torch.finfo(dtype).max) / 3


def wide(x: Tensor) -> torch.dtype:
    """float64, where the device has it."""
    return torch.float32 if x.device.type == "mps" else torch.float64
