"""The before/after table of a run, from its metrics."""

from rich.markup import escape
from rich.table import Table

from fipo.errors import UserError
from fipo.telemetry.run_directory import RunDirectory


def summary_table(run: RunDirectory) -> Table:
    """Greedy accuracy, avg@k and pass@k before and after, each with its 95% interval.

    Raises UserError for a run without an evaluation.
    """
    evaluations = [line for line in run.read_metrics() if "eval/avg_at_k" in line]
    if not evaluations:
        raise UserError(f"{run.path}: no evaluation has been written yet")
    before, after = evaluations[0], evaluations[-1]
    settings = run.read_config()["eval"]
    rows = {
        "greedy": "greedy",
        f"avg@{settings['samples']}": "avg_at_k",
        f"pass@{settings['samples']}": "pass_at_k",
    }
    table = Table(title=escape(f"{run.path}: held-out accuracy, % [95% interval]"), title_justify="left")
    table.add_column("")
    for column in ("before", f"after step {after['step']:.0f}", "change"):
        table.add_column(column, justify="right")
    for label, key in rows.items():
        change = 100 * (after[f"eval/{key}"] - before[f"eval/{key}"])
        table.add_row(label, _with_interval(before, key), _with_interval(after, key), f"{change:+.1f}")
    lengths = [evaluation["eval/response_length/mean"] for evaluation in (before, after)]
    table.add_row("mean response length", f"{lengths[0]:.1f}", f"{lengths[1]:.1f}", f"{lengths[1] - lengths[0]:+.1f}")
    return table


def _with_interval(metrics: dict[str, float], key: str) -> str:
    low, high = (100 * metrics[f"eval/ci/{key}/{end}"] for end in ("low", "high"))
    return f"{100 * metrics[f'eval/{key}']:.1f} [{low:.1f}, {high:.1f}]"
