"""The token credit of a report: recorded rollouts as a browser of them, each token coloured by its influence weight."""

import base64
import gzip
import html
import json
from collections.abc import Mapping
from importlib import resources
from string import Template
from typing import Any

from fipo.report.credit_sample import Sample, sample_rollouts
from fipo.report.credit_tokens import left_out, ranked_tokens
from fipo.report.gallery import gallery
from fipo.telemetry.rollouts import PER_TOKEN, RolloutRecord
from fipo.telemetry.run_directory import RunDirectory

BYTES = 32_000_000  # of rollouts/ lines that are read into one report; compressed and in base64 they are half or less
SHOWN = ("response", "tokens", *PER_TOKEN, "marks", "answer", "outcome", "reason", "reward", "advantage", "truncated")


def credit_section(runs: Mapping[str, RunDirectory], budget: int = BYTES) -> str:
    """`<section id="credit">` for the runs by label; credit.css and the scripts of page.CREDIT bring it to life.

    What comes from rollouts is in it as gzipped JSON in base64 alone: an index for each run, `credit-RUN`, and the
    groups of each step, `credit-RUN-STEP`, with RUN a number. The browser unpacks a step when it is looked at.
    Raises UserError for a rollouts file that is damaged.
    """
    samples = {label: sample_rollouts(run, budget // len(runs)) for label, run in runs.items()}
    counts = "".join(
        f"<p class=credit-count><b>{html.escape(label)}</b>: {html.escape(_counts(sample, runs[label]))}</p>"
        for label, sample in samples.items()
    )
    if not any(sample.rollouts for sample in samples.values()):
        return f'<section id="credit"><h2>Token credit</h2>{counts}</section>'
    options, data = "", ""
    for n, (label, sample) in enumerate(samples.items()):
        if sample.rollouts:
            options += f"<option value={n}>{html.escape(label)}</option>"
            data += _script(f"credit-{n}", _index(sample, runs[label].read_config()))
            data += "".join(_script(f"credit-{n}-{step}", _step(groups)) for step, groups in sample.steps.items())
    template = resources.files("fipo.report").joinpath("assets/credit.html").read_text(encoding="utf-8")
    return Template(template).substitute(counts=counts, runs=options, data=data)


def _counts(sample: Sample, run: RunDirectory) -> str:
    """The sentence that says what of the run is here."""
    if not sample.recorded_rollouts:
        return "no rollouts recorded."
    text = (
        f"{sample.rollouts:,} of {sample.recorded_rollouts:,} recorded rollouts, "
        f"from {len(sample.steps):,} of {sample.recorded_steps:,} steps."
    )
    groups = run.read_config().get("telemetry", {}).get("rollout_groups")
    return text if groups is None else f"{text} The run itself recorded {groups} groups a step."


def _script(name: str, content: Any) -> str:
    packed = gzip.compress(json.dumps(content, separators=(",", ":"), allow_nan=False).encode(), 6, mtime=0)
    return f'<script type="text/plain" id="{name}">{base64.b64encode(packed).decode()}</script>\n'


def _step(groups: list[list[RolloutRecord]]) -> list[dict[str, Any]]:
    """What is common to a group once, then its responses."""
    return [
        {
            **{key: group[0].get(key) for key in ("problem", "prompt", "expected", "mini_batch")},
            "responses": [
                {key: value for key, value in record.items() if key in SHOWN} | {"left_out": left_out(record)}
                for record in group
            ],
        }
        for group in groups
    ]


def _index(sample: Sample, config: dict[str, Any]) -> dict[str, Any]:
    """What filters and the list need of every response, and what the run was: small, and read at once."""
    rollouts = [
        [
            step,
            g,
            m,
            record.get("problem") or record.get("prompt", "")[:80],
            record.get("reward"),
            record.get("outcome"),
            len(record["tokens"]) if record.get("tokens") else None,
            record.get("mini_batch"),
            _spread(record),
        ]
        for step, groups in sample.steps.items()
        for g, group in enumerate(groups)
        for m, record in enumerate(group)
    ]
    return {
        "columns": ["step", "group", "member", "problem", "reward", "outcome", "length", "mini_batch", "spread"],
        "rollouts": rollouts,
        "mini_batches": config.get("update", {}).get("mini_batches"),
        "objective": _finite(config.get("resolved", {}).get("objective", {})),
        "ranked": ranked_tokens(sample),
        "gallery": gallery(sample),
        "truth": any(record.get("true_advantage") for g in sample.steps.values() for group in g for record in group),
    }


def _spread(record: RolloutRecord) -> float | None:
    """The largest influence weight of the response less the smallest."""
    weights = [weight for weight in record.get("influence_weight", []) if weight is not None]
    return max(weights) - min(weights) if weights else None


def _finite(objective: dict[str, Any]) -> dict[str, Any]:
    """The knobs without those that are infinite, which is off."""
    return {key: value for key, value in objective.items() if value != float("inf")}
