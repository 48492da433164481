"""Typed metrics that merge.

A metric carries its reduction, so that micro-batches, mini-batches and ranks merge by `+` and give what one
batch would have given. A metric over nothing has the value 0.0.
"""

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Self

import torch
from torch import Tensor

from fipo.objective.config import MAX_LOG_RATIO


class Metric(ABC):
    """A measurement that knows how to be merged with another part of itself.

    Numbers, no tensors: what was measured of [B, T] tokens.

    >>> (Mean(total=1.0, count=2) + Mean(total=3.0, count=2)).values("reward")
    {'reward': 1.0}
    """

    @abstractmethod
    def __add__(self, other: Self) -> Self:
        """The metric of both parts together."""

    @abstractmethod
    def values(self, name: str) -> dict[str, float]:
        """What to log: {name: value}, or several keys below name."""


class Scalar(Metric):
    """A metric with one value."""

    @property
    @abstractmethod
    def value(self) -> float: ...

    def values(self, name: str) -> dict[str, float]:
        return {name: self.value}


@dataclass(frozen=True)
class Mean(Scalar):
    """total / count, both of numbers, [].

    >>> (Mean(total=1.0, count=2) + Mean(total=3.0, count=2)).value
    1.0
    """

    total: float
    count: float

    def __add__(self, other: Self) -> Self:
        return type(self)(self.total + other.total, self.count + other.count)

    @property
    def value(self) -> float:
        return self.total / self.count if self.count else 0.0


@dataclass(frozen=True)
class Sum(Scalar):
    """A total, [].

    >>> (Sum(1.0) + Sum(3.0)).value
    4.0
    """

    total: float

    def __add__(self, other: Self) -> Self:
        return type(self)(self.total + other.total)

    @property
    def value(self) -> float:
        return self.total


@dataclass(frozen=True)
class Max(Scalar):
    """The largest value, []; -inf stands for no value, NaN wins.

    >>> (Max(1.0) + Max(3.0)).value
    3.0
    """

    largest: float

    def __add__(self, other: Self) -> Self:
        return max(self, other, key=lambda m: (math.isnan(m.largest), m.largest))

    @property
    def value(self) -> float:
        return 0.0 if self.largest == -math.inf else self.largest


@dataclass(frozen=True)
class Min(Scalar):
    """The smallest value, []; inf stands for no value, NaN wins.

    >>> (Min(1.0) + Min(3.0)).value
    1.0
    """

    smallest: float

    def __add__(self, other: Self) -> Self:
        return min(self, other, key=lambda m: (not math.isnan(m.smallest), m.smallest))

    @property
    def value(self) -> float:
        return 0.0 if self.smallest == math.inf else self.smallest


@dataclass(frozen=True)
class Std(Scalar):
    """The population standard deviation, [], merged by Chan's formula: no difference of large squares.

    >>> (Std(count=1, mean=1.0, squares=0.0) + Std(count=1, mean=3.0, squares=0.0)).value
    1.0
    """

    count: float
    mean: float
    squares: float  # sum of (x - mean)^2

    def __add__(self, other: Self) -> Self:
        count = self.count + other.count
        if count == 0:
            return self
        share = other.count / count
        gap = other.mean - self.mean
        squares = self.squares + other.squares + gap * gap * self.count * share
        return type(self)(count, self.mean + gap * share, squares)

    @property
    def value(self) -> float:
        return math.sqrt(self.squares / self.count) if self.count else 0.0


# Bins of log_ratio, edges at SCALE * sinh(i * WIDTH): 0.00016 wide at 0, 1.6% of the log-ratio far out.
# 2 * HALF of them cover +-20, where policy_loss clamps.
_HALF, RATIO_SCALE = 512, 0.01
RATIO_WIDTH = math.asinh(MAX_LOG_RATIO / RATIO_SCALE) / _HALF
RATIO_BINS = 2 * _HALF
QUANTILES = {"min": 0.0, "p25": 0.25, "median": 0.5, "p75": 0.75, "p995": 0.995, "p999": 0.999, "max": 1.0}


def ratio_bins(log_ratio: Tensor) -> Tensor:
    """The index of each log_ratio's bin in a RatioHistogram, int64 of the same shape."""
    index = (log_ratio.nan_to_num(0.0) / RATIO_SCALE).asinh().div(RATIO_WIDTH).floor()
    return index.clamp(-_HALF, _HALF - 1).to(torch.int64) + _HALF


@dataclass(frozen=True)
class RatioHistogram(Metric):
    """Counts of log_ratio in fixed bins: the ratio's quantiles to a bin's width, its extremes exactly.

    Of a log_ratio of any shape, such as [B, T].

    >>> bins = torch.bincount(ratio_bins(torch.tensor([0.0, 0.0, 0.0])), minlength=RATIO_BINS)
    >>> RatioHistogram(tuple(bins.tolist()), Min(0.0), Max(0.0), ("median", "max")).values("ratio")
    {'ratio/median': 1.0, 'ratio/max': 1.0}
    """

    counts: tuple[float, ...]  # one per bin
    smallest: Min  # of log_ratio
    largest: Max
    quantiles: tuple[str, ...]  # the names in QUANTILES that values() reports

    def __add__(self, other: Self) -> Self:
        counts = tuple(a + b for a, b in zip(self.counts, other.counts, strict=True))
        return replace(
            self, counts=counts, smallest=self.smallest + other.smallest, largest=self.largest + other.largest
        )

    def values(self, name: str) -> dict[str, float]:
        cumulated = list(accumulate(self.counts))
        return {f"{name}/{key}": self._quantile(QUANTILES[key], cumulated) for key in self.quantiles}

    def _quantile(self, q: float, cumulated: list[float]) -> float:
        """The q-quantile of the ratio, interpolated between order statistics as torch.quantile does."""
        if cumulated[-1] == 0:
            return 0.0
        rank = q * (cumulated[-1] - 1)
        below, above = (self._order_statistic(k, cumulated) for k in (math.floor(rank), math.ceil(rank)))
        return below + (above - below) * (rank % 1)

    def _order_statistic(self, k: int, cumulated: list[float]) -> float:
        """The k-th smallest ratio, the members of a bin taken to be spread evenly over it."""
        low, high = self.smallest.value, self.largest.value
        if k in (0, cumulated[-1] - 1):
            return math.exp(high if k else low)
        index = bisect_right(cumulated, k)
        within = 1 - (cumulated[index] - k - 0.5) / self.counts[index]
        log_ratio = RATIO_SCALE * math.sinh((index - _HALF + within) * RATIO_WIDTH)
        return math.exp(min(max(log_ratio, low), high))


class Metrics(dict[str, Metric]):
    """Metrics by their names, as `LossOutput.metrics()` gives them; `merge_metrics` merges them over micro-batches.

    Numbers, no tensors: what was measured of [B, T] tokens.

    >>> Metrics({"loss": Mean(total=6.0, count=3)}).values()
    {'loss': 2.0}
    """

    def values(self) -> dict[str, float]:  # type: ignore[override]
        """What to log: {name: number}, plain numbers; a histogram gives one for each quantile."""
        return metric_values(self)


def merge_metrics(parts: Iterable[Mapping[str, Metric]]) -> Metrics:
    """The metrics of all parts together: the union of their names, equal names merged by `+`.

    Numbers, [] each. Errors: ValueError when one name is measured in two ways.

    >>> merge_metrics([{"tokens": Sum(3.0)}, {"tokens": Sum(4.0)}]).values()
    {'tokens': 7.0}
    """
    merged = Metrics()
    for part in parts:
        for name, metric in part.items():
            if name in merged and type(metric) is not type(merged[name]):
                kinds = f"{type(merged[name]).__name__} and {type(metric).__name__}"
                raise ValueError(f"metric {name} must be of one type in every part, got {kinds}")
            merged[name] = merged[name] + metric if name in merged else metric
    return merged


def metric_values(metrics: Mapping[str, Metric]) -> dict[str, float]:
    """What to log: one float, [], per key; a histogram gives one per quantile.

    >>> metric_values({"tokens": Sum(3.0), "reward": Mean(total=1.0, count=2)})
    {'tokens': 3.0, 'reward': 0.5}
    """
    return {key: value for name, metric in metrics.items() for key, value in metric.values(name).items()}
