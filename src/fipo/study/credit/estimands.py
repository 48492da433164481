"""From the records of a cell to its estimates: pooled sums, and intervals by resampling whole checkpoints."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fipo.study.statistics import sign_flip_p

DRAWS = 4000  # of the bootstrap
LEAST = 4  # checkpoints: of fewer there is no interval
Record = dict[str, Any]
Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Bootstrapped:
    value: float
    low: float | None  # 95%, percentiles of the bootstrap; None where there are fewer than LEAST checkpoints
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Share:
    """A difference of cosines to the target, and as a share of what the true advantages gain over DAPO's."""

    difference: float  # mean over checkpoints
    share: Bootstrapped
    p: float  # two-sided, signs of the checkpoints' differences flipped


def of_sums(records: Sequence[Record], key: str, value: Callable[[Array], float]) -> Bootstrapped:
    """`value` of a moment summed over the groups of all checkpoints."""
    return _interval(np.array([of_groups([record], key) for record in records]), lambda rows: value(rows.sum(0)))


def of_groups(records: Sequence[Record], key: str) -> Array:
    """A moment, summed over the groups of all checkpoints."""
    total: Array = np.sum([group[key] for record in records for group in record["groups"]], axis=0)
    return total


def correlation(sums: Array) -> float:
    """The correlation of u and v from [n, u, v, u^2, v^2, u v], each summed."""
    n, u, v, uu, vv, uv = sums
    return _ratio(n * uv - u * v, ((n * uu - u * u) * (n * vv - v * v)) ** 0.5)


def predicted(sums: Array, spreads: Array) -> float:
    """corr(x, A) sd(x) / sd(F): corr(F, A) if the future terms say nothing; with endless responses sqrt(1 - gamma^2)
    times corr(x, A)."""
    n, u, _, uu, _, _ = sums
    _, f, _, ff, _, _ = spreads
    return correlation(sums) * (((n * uu - u * u) / (n * ff - f * f)) ** 0.5)


def prediction(records: Sequence[Record]) -> Bootstrapped:
    pairs = ("x, A", "F, A")
    sums = np.array([[of_groups([record], key) for key in pairs] for record in records])
    return _interval(sums, lambda rows: predicted(*rows.sum(0)))


def within(sums: Array) -> float:
    """The correlation of [f^2, a^2, f a] whose means are 0."""
    ff, aa, fa = sums
    return _ratio(fa, (ff * aa) ** 0.5)


def response_signal(records: Sequence[Record]) -> Bootstrapped:
    """Within groups: the correlation of a response's summed log-ratios with its advantage."""
    sums = []
    for record in records:
        total = np.zeros(3)
        for group in record["groups"]:
            x, a = np.array(group["responses"][::2]), np.array(group["responses"][1::2])
            x, a = x - x.mean(), a - a.mean()
            total += [x @ x, a @ a, x @ a]
        sums.append(total)
    return _interval(np.array(sums), lambda rows: within(rows.sum(0)))


def cosine(record: Record, name: str) -> float:
    """To the target; of a twin that was shuffled several times the mean."""
    found = record["cosines"]
    if name in found:
        return float(found[name][0])
    return float(np.mean([value[0] for key, value in found.items() if key.startswith(f"{name}_")]))


def share(records: Sequence[Record], name: str, against: str) -> Share:
    """S: [cos(NAME) - cos(AGAINST)] / [cos(truth) - cos(DAPO)], means over checkpoints above and below."""
    gains = np.array([cosine(r, name) - cosine(r, against) for r in records])
    truth = np.array([cosine(r, "truth") - cosine(r, "dapo") for r in records])
    both = np.stack([gains, truth], 1)
    ratio = _interval(both, lambda rows: _ratio(*rows.sum(0)))
    return Share(difference=float(gains.mean()), share=ratio, p=sign_flip_p(gains.tolist()))


def mean(values: Sequence[float]) -> Bootstrapped:
    """One a checkpoint."""
    return _interval(np.array(values), lambda rows: float(rows.mean()))


def _interval(rows: Array, value: Callable[[Array], float]) -> Bootstrapped:
    """rows: one for each checkpoint."""
    if len(rows) < LEAST:
        return Bootstrapped(value=value(rows), low=None, high=None)
    rng = np.random.default_rng(0)
    drawn = [value(rows[rng.integers(0, len(rows), len(rows))]) for _ in range(DRAWS)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Bootstrapped(value=value(rows), low=float(low), high=float(high))


def _ratio(a: float, b: float) -> float:
    return float(a / b) if b else float("nan")
