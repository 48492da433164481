"""The before/after table of a run, from its metrics."""

import re
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
    for label, key, digits in (("reward", "eval/reward", 3), ("mean response length", "eval/response_length/mean", 1)):
        if key in before and key in after:
            change = after[key] - before[key]
            cells = (f"{before[key]:.{digits}f}", f"{after[key]:.{digits}f}", f"{change:+.{digits}f}")
            rows[label] = cells[: len(columns)]
    for key in sorted(before):
        named = re.fullmatch("eval/([^/]+)/avg_at_k", key)
        if named and key in after:
            name, change = f"{named[1]}/avg_at_k", 100 * (after[key] - before[key])
            cells = (_with_interval(before, name), _with_interval(after, name), f"{change:+.1f}")
            rows[f"avg@{samples}, {named[1]}"] = cells[: len(columns)]
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
    source, _, estimate = key.rpartition("/")
    interval = f"eval/{source}/ci/{estimate}" if source else f"eval/ci/{estimate}"
    if f"{interval}/low" not in metrics:
        return value
    low, high = (100 * metrics[f"{interval}/{end}"] for end in ("low", "high"))
    return f"{value} [{low:.1f}, {high:.1f}]"
