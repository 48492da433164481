"""From the graded samples of every problem to the figures of an evaluation."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import Any

from rich.table import Table

from fipo.evaluation.answers import identity_text
from fipo.evaluation.estimators import cons_at_k, interval, pass_at_k_by_problem
from fipo.evaluation.results import Result, grade_of
from fipo.grading.outcomes import gives_numbers, reward_of

QUANTILES = (5, 25, 50, 75, 95)


def estimates_of(results: Sequence[Result]) -> dict[str, list[float]]:
    """avg@n, cons@n and pass@k for k = 1, 2, 4, ... and n, each as the values of the problems, [P] in [0, 1].

    Every value is a function of one problem and its own n samples. So over problems drawn from a population and
    samples drawn from the model the values of an estimate are independent and alike, and the interval of their
    mean covers both: their variance is that between problems plus that of the samples within.
    """
    n = len(results[0]["samples"])
    correct = [[sample["correct"] for sample in result["samples"]] for result in results]
    votes = [[sample["vote"] for sample in result["samples"]] for result in results]
    return {
        f"avg@{n}": [fmean(row) for row in correct],
        f"cons@{n}": [cons_at_k([vote], [row]) for vote, row in zip(votes, correct, strict=True)],
        **{f"pass@{k}": pass_at_k_by_problem(correct, k) for k in ks_up_to(n)},
    }


def ks_up_to(n: int) -> list[int]:
    """1, 2, 4, ... below n, and n."""
    return sorted({2**i for i in range(n.bit_length())} | {n})


def figures_of(results: Sequence[Result]) -> dict[str, Any]:
    """What summary.json says of the samples: estimates and rates with 95% intervals, lengths, counts."""
    samples = [sample for result in results for sample in result["samples"]]
    lengths = sorted(sample["tokens"] for sample in samples)
    rates = {
        "truncated": [fmean(sample["truncated"] for sample in result["samples"]) for result in results],
        "no_answer": [fmean(sample["outcome"] == "no_answer" for sample in result["samples"]) for result in results],
    }
    return {
        "problems": len(results),
        "samples_per_problem": len(results[0]["samples"]),
        "estimates": {name: _with_interval(values) for name, values in estimates_of(results).items()},
        "rates": {name: _with_interval(values) for name, values in rates.items()},
        "response_tokens": {
            "mean": fmean(lengths),
            **{f"p{q}": quantile(lengths, q / 100) for q in QUANTILES},
            "max": lengths[-1],
            "total": sum(lengths),
        },
        **_rewards(results),
        "failed_grades": sum(sample["outcome"] in ("timeout", "crash") for sample in samples),
    }


def _rewards(results: Sequence[Result]) -> dict[str, Any]:
    """The mean reward, where the grader gives numbers, and how much that of a problem varies."""
    grades = [[grade_of(sample) for sample in result["samples"]] for result in results]
    if not any(map(gives_numbers, grades)):
        return {}
    means = [fmean(map(reward_of, row)) for row in grades]
    return {"reward": {"value": fmean(means), "problems_sd": stdev(means) if len(means) > 1 else 0.0}}


def quantile(ordered: Sequence[float], q: float) -> float:
    """The q-quantile of sorted values, linear between neighbours."""
    place = q * (len(ordered) - 1)
    below, above = math.floor(place), math.ceil(place)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def figures_table(summary: dict[str, Any], title: str) -> Table:
    """The figures in %, with their intervals."""
    table = Table(title=f"{title}: % [95% interval]", title_justify="left")
    table.add_column(identity_text(summary["answered_by"]))
    table.add_column(f"{summary['problems']} problems x {summary['samples_per_problem']}", justify="right")
    for name, figure in (summary["estimates"] | summary["rates"]).items():
        low, high = (100 * end for end in figure["ci"])
        table.add_row(name.replace("_", " "), f"{100 * figure['value']:.1f} [{low:.1f}, {high:.1f}]")
    lengths = summary["response_tokens"]
    spread = ", ".join(f"{lengths[f'p{q}']:.0f}" for q in QUANTILES)
    table.add_row("response tokens, mean", f"{lengths['mean']:.1f}")
    table.add_row(f"at {', '.join(map(str, QUANTILES))} %", spread)
    if "reward" in summary:
        table.add_row("reward, mean", f"{summary['reward']['value']:.4g}")
    for name, figures in summary.get("by_source", {}).items():
        for estimate, figure in figures["estimates"].items():
            low, high = (100 * end for end in figure["ci"])
            table.add_row(f"{name}: {estimate}", f"{100 * figure['value']:.1f} [{low:.1f}, {high:.1f}]")
    if summary["failed_grades"]:
        table.add_row("grades that failed", str(summary["failed_grades"]))
    return table


def _with_interval(by_problem: Sequence[float]) -> dict[str, Any]:
    return {"value": fmean(by_problem), "ci": list(interval(by_problem))}
