"""`fipo eval --compare A B`: how much better B is than A on the problems that both answered, with an interval."""

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.table import Table

from fipo.errors import UserError
from fipo.evaluation.answers import identity_text
from fipo.evaluation.estimators import Z95, pass_at_k_by_problem
from fipo.evaluation.results import Result, ResultsFolder
from fipo.evaluation.summary import estimates_of

CONFIDENCE = 0.95


def compare(a: Path, b: Path) -> dict[str, Any]:
    """The paired differences B - A of two finished evaluations, and what was left out.

    avg@ and cons@ are of all samples; cons@ is left out where their number differs, because a majority of more
    samples is another quantity; pass@k has the smaller number. Raises UserError if a folder holds no finished
    evaluation, no problem is in both, or one id has two questions.
    """
    folders = [ResultsFolder.finished(path) for path in (a, b)]
    by_id = [{result["id"]: result for result in folder.read()} for folder in folders]
    shared = [id for id in by_id[0] if id in by_id[1]]
    if not shared:
        raise UserError(f"{a} and {b} share no problem ({len(by_id[0])} and {len(by_id[1])}, compared by their ids)")
    for id in shared:
        for name in ("prompt", "expected"):
            if by_id[0][id][name] != by_id[1][id][name]:
                raise UserError(f"problem {id} has another {name} in {a} than in {b}")
    pair = [[results[id] for id in shared] for results in by_id]
    summaries = [folder.read_summary() for folder in folders]
    return {
        "a": str(a),
        "b": str(b),
        "answered_by": [summary["answered_by"] for summary in summaries],
        "problems": len(shared),
        "only_in_a": len(by_id[0]) - len(shared),
        "only_in_b": len(by_id[1]) - len(shared),
        "settings_that_differ": _differing(*(summary["recipe"] for summary in summaries)),
        "differences": {
            name: {
                "a": fmean(values_a),
                "b": fmean(values_b),
                "difference": fmean(values_b) - fmean(values_a),
                "ci": list(paired_interval([y - x for x, y in zip(values_a, values_b, strict=True)])),
            }
            for name, (values_a, values_b) in _estimates(*pair).items()
        },
    }


def paired_interval(differences: Sequence[float]) -> tuple[float, float]:
    """The 95% interval of the mean of per-problem differences in [-1, 1], problems being the unit.

        mean -+ t(P - 1) * stdev / sqrt(P)                                                    (Student's t)

    Equal differences do not show how much they can differ. Then, as Agresti and Min (2005) do for pairs of 0 and 1,
    two more problems are assumed: one half won and half lost, and one tied. Raises ValueError without differences.
    """
    if not differences:
        raise ValueError("an interval needs at least one problem, got none")
    count, mean = len(differences), fmean(differences)
    if max(differences) - min(differences) > 1e-12:
        half = t_quantile(count - 1) * stdev(differences) / math.sqrt(count)
        return max(-1.0, mean - half), min(1.0, mean + half)
    centre = mean * count / (count + 2)
    variance = (mean**2 * count + 1) / (count + 2) - centre**2
    half = Z95 * math.sqrt(variance / (count + 2))
    return max(-1.0, min(centre - half, mean)), min(1.0, max(centre + half, mean))


def t_quantile(freedom: int) -> float:
    """What Student's t with so many degrees of freedom stays within, in 95 of 100 cases, by bisection."""
    low, high = 0.0, 20.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < CONFIDENCE else (low, middle)
    return high


def _within(t: float, freedom: int) -> float:
    """P(|T| < t). Source: Abramowitz and Stegun 1972, 26.7.3 and 26.7.4."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term, total = (cosine if odd else 1.0), 0.0
    for i in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine**2 * (i - 1) / i
    return 2 / math.pi * (angle + sine * total) if odd else sine * total


def comparison_table(comparison: dict[str, Any]) -> Table:
    """The differences in %, under the names of the two."""
    table = Table(title=f"{comparison['problems']} shared problems, % [95% interval]", title_justify="left")
    for column in ("", "A", "B"):
        table.add_column(column, justify="right" if column else "left")
    table.add_column("B - A", justify="right")
    for name, figure in comparison["differences"].items():
        low, high = (100 * end for end in figure["ci"])
        change = f"{100 * figure['difference']:+.1f} [{low:+.1f}, {high:+.1f}]"
        table.add_row(name, f"{100 * figure['a']:.1f}", f"{100 * figure['b']:.1f}", change)
    return table


def comparison_notes(comparison: dict[str, Any]) -> list[str]:
    """What the reader of the table has to know: who A and B are, and what makes them differ besides."""
    notes = [
        f"{end.upper()}: {comparison[end]}: {identity_text(identity)}"
        for end, identity in zip("ab", comparison["answered_by"], strict=True)
    ]
    notes += [
        f"{count} problem{'s are' if count > 1 else ' is'} only in {comparison[end]}; left out"
        for end in "ab"
        if (count := comparison[f"only_in_{end}"])
    ]
    if differing := comparison["settings_that_differ"]:
        notes.append(f"note: the two differ in {', '.join(differing)} as well")
    return notes


def _estimates(a: Sequence[Result], b: Sequence[Result]) -> dict[str, tuple[list[float], list[float]]]:
    """Values by problem of A and of B, by name."""
    of_a, of_b = estimates_of(a), estimates_of(b)
    n_a, n_b = (len(results[0]["samples"]) for results in (a, b))
    if n_a == n_b:
        names = (f"avg@{n_a}", f"cons@{n_a}", f"pass@{n_a}")
        return {name: (of_a[name], of_b[name]) for name in names}
    k = min(n_a, n_b)
    passes = [
        pass_at_k_by_problem([[sample["correct"] for sample in result["samples"]] for result in results], k)
        for results in (a, b)
    ]
    return {"avg": (of_a[f"avg@{n_a}"], of_b[f"avg@{n_b}"]), f"pass@{k}": (passes[0], passes[1])}


def _differing(a: dict[str, Any], b: dict[str, Any]) -> list[str]:
    """The keys of [data] and [sampling] with other values, which make it more than a comparison of two models."""
    return [
        f"{table}.{key}"
        for table in ("data", "sampling")
        for key in sorted({*a[table], *b[table]} - {"preset", "max_bad_rows", "max_prompt_tokens"})
        if a[table].get(key) != b[table].get(key)
    ]
