"""What paired runs can tell: differences, their intervals, p-values, and what could have been seen. Pure functions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

EXACT_UP_TO = 16  # seeds: 2^16 patterns of signs are all counted; of more seeds that many are drawn
POWER = 0.8
QUANTILES = 10_000  # of the estimated deviation, over which the power is averaged


@dataclass(frozen=True, kw_only=True)
class SeedEstimate:
    """A mean over seeds with its 95% interval (Student's t; the seed is the unit). None where one seed gives none."""

    seeds: int
    mean: float
    low: float | None
    high: float | None
    deviation: float | None  # unbiased standard deviation over seeds


def estimate(values: Sequence[float]) -> SeedEstimate:
    """The estimate from n >= 1 numbers, one a seed."""
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return SeedEstimate(seeds=n, mean=mean, low=None, high=None, deviation=None)
    deviation = float(np.std(values, ddof=1))
    half = float(stats.t.ppf(0.975, n - 1)) * deviation / n**0.5
    return SeedEstimate(seeds=n, mean=mean, low=mean - half, high=mean + half, deviation=deviation)


def sign_flip_p(differences: Sequence[float]) -> float:
    """The two-sided p-value of a mean difference of 0, if each seed's difference could as well have the other sign.

    Exact for up to EXACT_UP_TO seeds; beyond, 2^EXACT_UP_TO patterns drawn with a fixed seed, the observed one added
    (Phipson and Smyth 2010, so that it is never 0).
    """
    values = np.asarray(differences, dtype=np.float64)
    n = len(values)
    if n <= EXACT_UP_TO:
        patterns = np.arange(2**n)[:, None] >> np.arange(n) & 1
    else:
        patterns = np.random.default_rng(0).integers(0, 2, size=(2**EXACT_UP_TO, n))
    sums = np.abs((1 - 2 * patterns) @ values)
    as_large = int(np.count_nonzero(sums >= abs(values.sum()) * (1 - 1e-12)))
    return as_large / 2**n if n <= EXACT_UP_TO else (as_large + 1) / (2**EXACT_UP_TO + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value corrected for their number (Holm 1979), in the order given."""
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def detectable(deviation: float, seeds: int, *, alpha: float) -> float | None:
    """The smallest true mean difference that a two-sided paired t-test at `alpha` finds with probability POWER.

    `deviation`: of the differences over seeds. None where not even differences of one sign reach `alpha` when signs are
    flipped.
    """
    if 2 / 2**seeds > alpha:
        return None
    if deviation == 0:
        return 0.0
    threshold = float(stats.t.ppf(1 - alpha / 2, seeds - 1))
    levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
    bars = threshold * np.sqrt(stats.chi2.ppf(levels, seeds - 1) / (seeds - 1))  # for each estimate of the deviation

    def shortfall(effect: float) -> float:  # in standard errors
        return float(np.mean(stats.norm.cdf(effect - bars) + stats.norm.cdf(-effect - bars))) - POWER

    return float(optimize.brentq(shortfall, 0, 10 * threshold + 10)) * deviation / seeds**0.5
