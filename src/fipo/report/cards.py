"""What each run was and what came of it, above the figures."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fipo.report.summary import summarize


def card(name: str, arm: int, metrics: Sequence[dict[str, float]], config: Mapping[str, Any]) -> str:
    """The HTML of one run, with the colour of the arm of this number."""
    facts = "".join(f"<div><dt>{label}</dt><dd>{escape(fact)}</dd></div>" for label, fact in _facts(metrics, config))
    return (
        f'<article><h3><span class="swatch" data-arm="{arm}"></span> {escape(name)}</h3>'
        f"<dl>{facts}</dl>{_table(metrics, config)}</article>"
    )


def _facts(metrics: Sequence[dict[str, float]], config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Those that config.toml knows: a run that was collected from verl knows few."""
    found = {
        "preset": config.get("objective", {}).get("preset"),
        "model": config.get("model", {}).get("path"),
        "data": config.get("data", {}).get("train", {}).get("source"),
        "seed": config.get("run", {}).get("seed"),
        "steps": _steps(metrics, config.get("run", {}).get("steps")),
        "rounding": _rounding(metrics),
        "time": _duration(sum(line.get("time/step", 0) + line.get("time/eval", 0) for line in metrics)),
    }
    return [(label, str(fact)) for label, fact in found.items() if fact is not None]


def _steps(metrics: Sequence[dict[str, float]], planned: int | None) -> str:
    done = max((line["step"] for line in metrics), default=0)
    return f"{done:.0f}" if planned is None else f"{done:.0f} of {planned}"


def _rounding(metrics: Sequence[dict[str, float]]) -> str | None:
    """The rounding of the last step that measured it."""
    noise = [line["fipo/future_kl_noise"] for line in metrics if "fipo/future_kl_noise" in line]
    return f"{noise[-1]:.2g} of the FutureKL" if noise else None


def _duration(seconds: float) -> str | None:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if seconds else None


def _table(metrics: Sequence[dict[str, float]], config: Mapping[str, Any]) -> str:
    summary = summarize(metrics, config)
    if summary is None:
        return '<p class="nodata">No evaluation has been written yet.</p>'
    head = "".join(f'<th scope="col">{column}</th>' for column in summary.columns)
    rows = "".join(
        f'<tr><th scope="row">{escape(label)}</th>{"".join(map(_cell, cells))}</tr>'
        for label, cells in summary.rows.items()
    )
    return (
        "<table><caption>Held-out accuracy in % [95% interval], response length in tokens</caption>"
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{rows}</tbody></table>"
    )


def _cell(text: str) -> str:
    """The interval goes into the next line where there is no room, as one."""
    value, _, interval = text.partition(" ")
    return f"<td>{value} <span>{interval}</span></td>" if interval else f"<td>{value}</td>"
