"""The model card of a trained model, from its run directory alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fipo.report.summary import summarize
from fipo.telemetry.run_directory import RunDirectory

HUB_LAYOUT = "---\n"
CURVE_ROWS = 12  # of the table of evaluations, at most


def model_card(run: RunDirectory, *, name: str, step: int) -> str:
    """Markdown with the hub's header: what was trained on what, its curve with intervals, recipe and versions.

    step: of the checkpoint; what the run did afterwards is left out.
    """
    config = run.read_config()
    metrics = [line for line in run.read_metrics() if line["step"] <= step]
    return "\n".join(
        [
            _header(config),
            f"# {name}",
            "",
            _what(config, step),
            "",
            *_result(metrics, config),
            *_curve(metrics, config),
            "## Recipe",
            "",
            "`recipe.toml` is all of it, with the resolved objective, the hashes of the data and the versions;",
            "`metrics.jsonl` has every step. `fipo train recipe.toml --run.name again` repeats the run.",
            "",
            "```toml",
            (run.config.read_text(encoding="utf-8").rstrip()),
            "```",
            "",
            "## Versions",
            "",
            *(f"- {package} {version}" for package, version in config.get("versions", {}).items()),
            "",
        ]
    )


def _header(config: Mapping[str, Any]) -> str:
    """What the hub reads: the base only if it is a name of the hub."""
    base = str(config.get("model", {}).get("path", ""))
    lines = [
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "tags:",
        "- fipo",
        "- reinforcement-learning",
    ]
    if "/" in base and not Path(base).exists() and not base.startswith(("/", ".")):
        lines.insert(0, f"base_model: {base}")
    return f"{HUB_LAYOUT}{chr(10).join(lines)}\n{HUB_LAYOUT}"


def what_was_trained(config: Mapping[str, Any]) -> str:
    """Which weights, and where they are in a checkpoint."""
    lora = config.get("model", {}).get("lora")
    if not lora:
        return "all weights"
    base = "the base dequantised from 4 bits (NF4)" if lora.get("base") == "4bit" else "the base"
    return f"adapters of rank {lora.get('rank')}, merged into {base}"


def _what(config: Mapping[str, Any], step: int) -> str:
    model, data = config.get("model", {}), config.get("data", {})
    preset = config.get("objective", {}).get("preset", "an objective of its own")
    return (
        f"`{model.get('path')}` trained by reinforcement learning with fipo's `{preset}` for {step} steps "
        f"({what_was_trained(config)}), on {_source(data.get('train', {}))}, graded by `{data.get('grader')}`."
    )


def _source(source: Any) -> str:
    """In words, whatever kind of source it is."""
    if isinstance(source, Mapping):
        named = next((source[key] for key in ("name", "path", "task", "source") if key in source), "problems")
        return f"`{named}`"
    return ", ".join(_source(each) for each in source) if isinstance(source, Sequence) else f"`{source}`"


def _result(metrics: Sequence[dict[str, float]], config: Mapping[str, Any]) -> list[str]:
    summary = summarize(metrics, config)
    if summary is None:
        return []
    evaluated = _source(config.get("data", {}).get("eval", {}))
    rows = [f"| {label} | {' | '.join(cells)} |" for label, cells in summary.rows.items()]
    head = f"| | {' | '.join(summary.columns)} |"
    line = "|---" * (len(summary.columns) + 1) + "|"
    return ["## Held-out accuracy", "", f"On {evaluated}, in % with 95% intervals.", "", head, line, *rows, ""]


def _curve(metrics: Sequence[dict[str, float]], config: Mapping[str, Any]) -> list[str]:
    evaluations = [line for line in metrics if "eval/avg_at_k" in line]
    if len(evaluations) < 2:
        return []
    every = -(-len(evaluations) // CURVE_ROWS)
    shown = [*evaluations[:-1:every], evaluations[-1]]
    samples = config.get("eval", {}).get("samples", "k")
    rows = [f"| {line['step']:.0f} | {_percent(line)} |" for line in shown]
    return ["## Curve", "", f"| step | avg@{samples}, % |", "|---|---|", *rows, ""]


def _percent(line: Mapping[str, float]) -> str:
    value = f"{100 * line['eval/avg_at_k']:.1f}"
    low, high = (line.get(f"eval/ci/avg_at_k/{end}") for end in ("low", "high"))
    return value if low is None or high is None else f"{value} [{100 * low:.1f}, {100 * high:.1f}]"
