"""The pictures of a study: curves of every arm with its 95% band, and the paired differences."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from fipo.study.archive import ArchivedRun
from fipo.study.config import Study
from fipo.study.endpoints import TESTED
from fipo.study.outcome import Outcome, title
from fipo.study.statistics import estimate
from fipo.telemetry.durable import replace_file

LEAST_FOR_A_BAND = 6  # seeds: of fewer, each run is drawn
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # Okabe and Ito's
CURVES = {
    "reward/mean": "training reward",
    "eval/avg_at_k": "held-out avg@k",
    "response_length/mean": "response length (tokens)",
    "policy/entropy": "entropy (nats per token)",
    "fipo/raw_influence_weight/std": "std of exp(FutureKL)",
    "policy/dual_clip_fraction": "dual-clip fraction",
}


def draw_curves(study: Study, runs: Sequence[ArchivedRun], path: Path) -> None:
    """The arms with all seeds, in the PNG `path`: with more of them nothing would be seen."""
    figure, axes = plt.subplots(2, 3, figsize=(15, 8), constrained_layout=True)
    whole = [arm for arm in study.arms if len(study.seeds_of(arm)) == study.study.seeds]
    arms = [arm for arm in whole if any(run.arm == arm and not run.failure for run in runs)]
    for axis, (key, label) in zip(axes.flat, CURVES.items(), strict=True):
        for i, arm in enumerate(arms):
            _curve(axis, [run for run in runs if run.arm == arm and not run.failure], key, i, title(study, arm))
        axis.set(title=label, xlabel="step")
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    _save(figure, path)


def _save(figure: plt.Figure, path: Path) -> None:
    picture = BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    plt.close(figure)
    replace_file(path, picture.getvalue())


def _curve(axis: plt.Axes, runs: Sequence[ArchivedRun], key: str, number: int, label: str) -> None:
    values: dict[int, list[float]] = {}
    for run in runs:
        for line in run.lines:
            if key in line:
                values.setdefault(int(line["step"]), []).append(line[key])
    steps = sorted(values)
    estimates = [estimate(values[step]) for step in steps]
    colour, style = COLOURS[number % len(COLOURS)], ("-", "--", ":", "-.")[number // len(COLOURS) % 4]
    axis.plot(steps, [e.mean for e in estimates], color=colour, linestyle=style, label=label)
    if len(runs) < LEAST_FOR_A_BAND:
        for run in runs:
            own = [(line["step"], line[key]) for line in run.lines if key in line]
            axis.plot(*zip(*own, strict=True), color=colour, linestyle=style, linewidth=0.5, alpha=0.6)
        return
    low = [e.mean if e.low is None else e.low for e in estimates]
    high = [e.mean if e.high is None else e.high for e in estimates]
    axis.fill_between(steps, low, high, color=colour, alpha=0.12, linewidth=0)


def draw_contrasts(study: Study, outcome: Outcome, path: Path) -> None:
    """`path`: the PNG to write."""
    figure, axes = plt.subplots(1, len(TESTED), figsize=(15, 1.5 + 0.4 * len(study.study.contrasts)), sharey=True)
    for axis, (name, endpoint) in zip(axes, TESTED.items(), strict=True):
        contrasts = [c for c in outcome.contrasts if c.endpoint == name][::-1]
        for y, contrast in enumerate(contrasts):
            d = contrast.difference
            low, high = (d.mean, d.mean) if d.low is None or d.high is None else (d.low, d.high)
            axis.errorbar(d.mean, y, xerr=[[d.mean - low], [high - d.mean]], fmt="o", color=COLOURS[0], capsize=3)
        axis.set(title=endpoint.title, yticks=range(len(contrasts)))
        axis.set_yticklabels([f"{title(study, c.a)} - {title(study, c.b)} (n={c.difference.seeds})" for c in contrasts])
        axis.locator_params(axis="x", nbins=5)
        axis.axvline(0, color="#888888", linewidth=1)
    figure.tight_layout()
    _save(figure, path)
