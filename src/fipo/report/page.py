"""`report.html`: the curves of one run or several in a single file that opens without a network."""

import html
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from fipo.errors import UserError
from fipo.report.credit import credit_section
from fipo.telemetry.durable import replace_file
from fipo.telemetry.run_directory import RunDirectory

# Okabe and Ito's colours, which colour-blind readers can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
HEIGHT = 320  # pixels


@dataclass(frozen=True, kw_only=True)
class Figure:
    title: str
    look_for: str  # one sentence
    keys: tuple[str, ...]  # of metrics.jsonl, one line each
    interval: bool = False  # draw eval/ci of the first key


FIGURES = (
    Figure(
        title="Held-out accuracy (avg@k)",
        look_for="The mean accuracy of sampled answers to problems that training never sees, with its 95% interval.",
        keys=("eval/avg_at_k",),
        interval=True,
    ),
    Figure(
        title="Greedy accuracy and pass@k",
        look_for="If avg@k rises while pass@k stays, the policy sharpened; if both rise, it learned something new.",
        keys=("eval/greedy", "eval/pass_at_k"),
    ),
    Figure(
        title="Training reward",
        look_for="It should rise; it is the mean over everything that was sampled, dropped groups included.",
        keys=("reward/mean",),
    ),
    Figure(
        title="Response length (tokens)",
        look_for="Growth together with accuracy is what FIPO's authors report; growth alone is rambling.",
        keys=("response_length/mean", "response_length/p25", "response_length/p75"),
    ),
    Figure(
        title="Influence weight f",
        look_for="1 means no influence: the first mini-batch always has it. A mean far from 1 acts as a step size.",
        keys=("fipo/influence_weight/mean", "fipo/influence_weight/min", "fipo/influence_weight/max"),
    ),
    Figure(
        title="Entropy (nats per token)",
        look_for="A slow fall is learning; a drop to zero means that sampling has nothing left to explore.",
        keys=("policy/entropy",),
    ),
    Figure(
        title="Policy KL",
        look_for="How far the updates of one step move the policy; spikes come before trouble.",
        keys=("policy/kl",),
    ),
    Figure(
        title="Clipped tokens",
        look_for="The share of tokens whose update the clip held back.",
        keys=("policy/clip_fraction", "policy/dual_clip_fraction"),
    ),
    Figure(
        title="Gradient norm",
        look_for="Before clipping; a climb over many steps is instability.",
        keys=("policy/grad_norm",),
    ),
)


def write_report(runs: Sequence[RunDirectory], out: Path) -> None:
    """One self-contained HTML file with every figure, the runs overlaid.

    Raises UserError if there can be no such file, DiskError if it cannot be written.
    """
    if not out.parent.is_dir() or out.is_dir():
        raise UserError(f"{out}: cannot write the report: not a file in an existing folder")
    metrics = dict(zip(_labels(runs), (run.read_metrics() for run in runs), strict=True))
    names = ", ".join(metrics)
    sections = "".join(_section(figure, metrics) for figure in FIGURES)
    page = (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>fipo: {html.escape(names)}</title><style>{STYLE}</style><script>{get_plotlyjs()}</script>"
        f"<h1>{html.escape(names)}</h1><main>{sections}</main>{_credit(runs)}</html>"
    )
    replace_file(out, page.encode())


def _credit(runs: Sequence[RunDirectory]) -> str:
    style, *scripts = (
        resources.files("fipo.report").joinpath("assets", name).read_text(encoding="utf-8")
        for name in ("credit.css", "credit_tokens.js", "credit.js")
    )
    section = credit_section(dict(zip(_labels(runs), runs, strict=True)))
    return f"<style>{style}</style>{section}" + "".join(f"<script>{script}</script>" for script in scripts)


STYLE = """
:root { --paper: #fff; --panel: #f6f6f4; --ink: #222; --muted: #666; --line: #ccc; --accent: #0072b2 }
body { font: 15px/1.4 system-ui, sans-serif; margin: 1rem auto; max-width: 1200px; padding: 0 1rem; color: #222 }
h1 { font-size: 1.3rem } h2 { font-size: 1rem; margin: 0 } p { margin: .2rem 0; color: #555 }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 480px), 1fr)); gap: 1.5rem }
section { min-width: 0 }
"""


def _labels(runs: Sequence[RunDirectory]) -> list[str]:
    """The runs' names, or their paths where two runs have one name."""
    names = [run.path.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def _section(figure: Figure, metrics: dict[str, list[dict[str, float]]]) -> str:
    plot = draw(figure, metrics).to_html(
        full_html=False, include_plotlyjs=False, config={"displaylogo": False, "responsive": True}
    )
    return f"<section><h2>{html.escape(figure.title)}</h2><p>{html.escape(figure.look_for)}</p>{plot}</section>"


def draw(figure: Figure, metrics: dict[str, list[dict[str, float]]]) -> go.Figure:
    """The figure for several runs: a colour per run, a dash per key."""
    plot = go.Figure(
        layout=go.Layout(
            height=HEIGHT,
            margin={"l": 50, "r": 10, "t": 10, "b": 40},
            xaxis={"title": "step", "tickformat": "d"},
            legend={"orientation": "h", "y": -0.25},
            template="plotly_white",
        )
    )
    for colour, (name, lines) in zip(_cycle(len(metrics)), metrics.items(), strict=True):
        if figure.interval:
            plot.add_trace(_band(figure.keys[0], lines, colour))
        for key, dash in zip(figure.keys, ("solid", "dot", "dash"), strict=False):
            points = [(line["step"], line[key]) for line in lines if key in line]
            label = name if len(figure.keys) == 1 else f"{name} {key.split('/', 1)[1]}"
            plot.add_trace(
                go.Scatter(
                    x=[x for x, _ in points], y=[y for _, y in points], name=label, line={"color": colour, "dash": dash}
                )
            )
    return plot


def _band(key: str, lines: list[dict[str, float]], colour: str) -> go.Scatter:
    """The 95% interval as a shaded area."""
    name = key.removeprefix("eval/")
    low, high = f"eval/ci/{name}/low", f"eval/ci/{name}/high"
    points = [line for line in lines if low in line]
    steps = [line["step"] for line in points]
    return go.Scatter(
        x=steps + steps[::-1],
        y=[line[high] for line in points] + [line[low] for line in points][::-1],
        mode="lines",
        fill="toself",
        fillcolor=f"rgba({','.join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))},0.15)",
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
    )


def _cycle(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]
