"""avg@k, pass@k and cons@k of P problems with n samples each, and intervals that know about both.

[P, n] is whatever has rows: lists, a numpy array, a tensor, or a list of either.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from statistics import fmean, pvariance
from typing import Any, TypeAlias, TypeVar

Z95 = 1.959963984540054  # the normal quantile of a two-sided 95% interval
RowType = TypeVar("RowType", bound=Sequence[Any])
Rows: TypeAlias = Any  # [P, n], see above


def avg_at_k(correct: Rows) -> float:
    """The mean over problems of the share of correct samples.

    correct: [P, n] of bool, or 0 and 1; lists, a numpy array or a tensor.
    Raises ValueError if there is no problem, a problem without samples, or another value.

    >>> avg_at_k([[1, 0, 0, 0], [1, 1, 1, 0]])
    0.5
    """
    return fmean(_per_problem(_marks(correct), lambda row: sum(row) / len(row)))


def pass_at_k(correct: Rows, k: int) -> float:
    """The probability that at least one of k samples is correct, unbiased.

        1 - C(n - c, k) / C(n, k)     for c correct of n, averaged over problems

    correct: [P, n] with n >= k, of bool, or 0 and 1; lists, a numpy array or a tensor.
    Raises ValueError unless 1 <= k <= n. Source: Chen et al. 2021 (arXiv 2107.03374), Eq. 1.

    >>> pass_at_k([[True, False], [False, False]], k=2)
    0.5
    """
    return fmean(pass_at_k_by_problem(correct, k))


def pass_at_k_by_problem(correct: Rows, k: int) -> list[float]:
    """The same for each problem, [P]."""

    def estimate(row: Sequence[bool]) -> float:
        if not 1 <= k <= len(row):
            raise ValueError(f"k must be between 1 and the {len(row)} samples of a problem, got {k}")
        return 1 - math.comb(len(row) - sum(row), k) / math.comb(len(row), k)

    return _per_problem(_marks(correct), estimate)


def cons_at_k(answers: Rows, correct: Rows) -> float:
    """How often the commonest answer is correct, over problems; equally common answers share the vote.

    answers, correct: [P, n], lists, numpy arrays or tensors; equal answers must be equal objects, None = no answer,
    which never wins; correct of bool, or 0 and 1.
    Raises ValueError if the shapes differ or a problem has no samples.

    >>> cons_at_k([["7", "7", "9"]], [[True, True, False]])
    1.0
    """

    def vote(row: list[tuple[Hashable | None, bool]]) -> float:
        counts = Counter(answer for answer, _ in row if answer is not None)
        if not counts:
            return 0.0
        most = max(counts.values())
        winners = [answer for answer, count in counts.items() if count == most]
        right = {answer for answer, is_correct in row if is_correct}
        return sum(winner in right for winner in winners) / len(winners)

    rows = [list(zip(a, c, strict=True)) for a, c in zip(_rows(answers), _marks(correct), strict=True)]
    return fmean(_per_problem(rows, vote))


def interval(by_problem: Iterable[float]) -> tuple[float, float]:
    """The 95% score interval of the mean of per-problem values in [0, 1], problems being the unit.

    Wilson's interval with the effective number of trials p(1 - p) / var(mean): for 0/1 values it is Wilson's
    own, for averages over several samples it is as much narrower as their spread between problems says, and
    it keeps a width where every value is 0 or 1. Source: Wilson 1927; Korn and Graubard 1998 for the
    effective number. by_problem: [P], a list, a numpy array or a tensor. Raises ValueError if there is no problem.

    >>> low, high = interval([1.0] * 8 + [0.0] * 2)
    >>> round(low, 2), round(high, 2)
    (0.49, 0.94)
    """
    by_problem = [float(value) for value in by_problem]
    if not by_problem:
        raise ValueError("an interval needs at least one problem, got none")
    n, p = len(by_problem), fmean(by_problem)
    varied = min(by_problem) < max(by_problem)  # rounding gives equal values a tiny variance
    trials = p * (1 - p) * n / pvariance(by_problem, p) if varied else n
    scale = 1 + Z95**2 / trials
    centre = (p + Z95**2 / (2 * trials)) / scale
    half = Z95 / scale * math.sqrt(p * (1 - p) / trials + Z95**2 / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def _rows(values: Rows) -> list[list[Any]]:
    """The rows of lists, an array or a tensor as lists of plain values."""
    whole = values.tolist() if hasattr(values, "tolist") else values
    rows = [row.tolist() if hasattr(row, "tolist") else row for row in whole]
    if flat := [row for row in rows if isinstance(row, str) or not isinstance(row, Sequence)]:
        raise ValueError(f"samples must be [P, n], one row for each problem, got {flat[0]!r:.80} for a row")
    return [list(row) for row in rows]


def _marks(correct: Rows) -> list[list[bool]]:
    """Raises ValueError for what is neither a bool nor 0 or 1."""
    rows = _rows(correct)
    odd = [value for row in rows for value in row if value not in (0, 1)]
    if odd:
        raise ValueError(f"correct must be True and False, or 1 and 0, got {odd[0]!r:.80}")
    return [[bool(value) for value in row] for row in rows]


def _per_problem(rows: Sequence[RowType], estimate: Callable[[RowType], float]) -> list[float]:
    if not rows:
        raise ValueError("an estimate needs at least one problem, got none")
    if any(len(row) == 0 for row in rows):
        raise ValueError("every problem needs at least one sample, got one with none")
    return [estimate(row) for row in rows]
