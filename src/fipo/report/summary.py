"""The before/after table of a run, from its metrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from fipo.errors import UserError
from fipo.telemetry.run_directory import RunDirectory


@dataclass(frozen=True, kw_only=True)
class Summary:
    columns: tuple[str, ...]  # before, after and change; before alone where there is one evaluation
    rows: dict[str, tuple[str, ...]]  # by what was measured; accuracies in % with their 95% interval


def summarize(metrics: Sequence[dict[str, float]], config: Mapping[str, Any]) -> Summary | None:
    """Greedy accuracy, avg@k, pass@k and response length of the first and the last evaluation; None without any."""
    evaluations = [line for line in metrics if "eval/avg_at_k" in line]
    if not evaluations:
        return None
    before, after = evaluations[0], evaluations[-1]
    first = "before" if before["step"] == 0 else f"step {before['step']:.0f}"
    columns = (first, f"after step {after['step']:.0f}", "change") if before is not after else (first,)
    samples = config.get("eval", {}).get("samples", "k")
    rows = {}
    for label, key in (("greedy", "greedy"), (f"avg@{samples}", "avg_at_k"), (f"pass@{samples}", "pass_at_k")):
        if all(f"eval/{key}" in line for line in (before, after)):
            change = 100 * (after[f"eval/{key}"] - before[f"eval/{key}"])
            rows[label] = (_with_interval(before, key), _with_interval(after, key), f"{change:+.1f}")[: len(columns)]
    length = "eval/response_length/mean"
    if length in before and length in after:
        change = after[length] - before[length]
        rows["mean response length"] = (f"{before[length]:.1f}", f"{after[length]:.1f}", f"{change:+.1f}")[
            : len(columns)
        ]
    return Summary(columns=columns, rows=rows)


def summary_table(run: RunDirectory) -> Table:
    """The summary for a terminal. Raises UserError for a run without an evaluation."""
    summary = summarize(run.read_metrics(), run.read_config())
    if summary is None:
        raise UserError(f"{run.path}: no evaluation has been written yet")
    table = Table(title=f"{run.path}: held-out accuracy, % [95% interval]", title_justify="left")
    table.add_column("")
    for column in summary.columns:
        table.add_column(column, justify="right")
    for label, cells in summary.rows.items():
        table.add_row(label, *cells)
    return table


def _with_interval(metrics: dict[str, float], key: str) -> str:
    value = f"{100 * metrics[f'eval/{key}']:.1f}"
    if f"eval/ci/{key}/low" not in metrics:
        return value
    low, high = (100 * metrics[f"eval/ci/{key}/{end}"] for end in ("low", "high"))
    return f"{value} [{low:.1f}, {high:.1f}]"
