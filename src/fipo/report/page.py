"""`report.html`: the curves of one run or several in a single file that opens without a network."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from importlib.resources import files
from pathlib import Path

from fipo.report.cards import card
from fipo.report.credit import credit_section
from fipo.report.data import Columns, RunGroup, arms, drawn_columns, named
from fipo.report.figures import CHAPTERS, Chapter, Figure, all_figures, used_keys
from fipo.report.introduction import introduction
from fipo.telemetry.durable import refuse_unwritable, write_output
from fipo.telemetry.run_directory import RunDirectory

DEFAULT_SMOOTHING = 0.6
CREDIT = ("credit_words.js", "credit_tokens.js", "credit_gallery.js", "credit.js")  # one after another in one function


def write_report(runs: Sequence[RunDirectory], out: Path) -> None:
    """One self-contained HTML file with every figure, the runs overlaid.

    Raises UserError if there can be no such file, DiskError if it cannot be written.
    """
    refuse_unwritable(out)
    write_output(out, _page(named(runs)).encode(errors="backslashreplace"))


def _page(runs: Mapping[str, RunDirectory]) -> str:
    configs = {name: run.read_config() for name, run in runs.items()}
    metrics = {name: run.read_metrics() for name, run in runs.items()}
    drawn = {name: drawn_columns(lines, used_keys(all_figures())) for name, lines in metrics.items()}
    groups = arms(configs)
    cards = "".join(
        card(name, number, metrics[name], configs[name]) for number, arm in enumerate(groups) for name in arm.runs
    )
    names = escape(", ".join(runs))
    chapters = "".join(_chapter(chapter, drawn) for chapter in CHAPTERS)
    credit = credit_section(runs)
    links = "".join(f'<a href="#{_id(chapter.title)}">{chapter.title}</a>' for chapter in CHAPTERS)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>fipo: {names}</title><style>{_asset("page.css")}{_asset("credit.css")}</style></head>
<body>
<h1>{names}</h1>
<nav aria-label="Chapters"><a class="first" href="#credit">Token credit: the weight of every token</a>{links}</nav>
{introduction(runs)}
<section class="runs">{cards}</section>
{CONTROLS}
<main><p class="lead">{NOTE}</p>{chapters}{credit}</main>
<noscript><p>The figures need JavaScript. Nothing is loaded from a network.</p></noscript>
<script type="application/json" id="report-data">{_script_data(groups, drawn)}</script>
<script>(() => {{ {"".join(map(_asset, CREDIT))} }})();</script>
<script>{_asset("plotly-basic.min.js")}</script>
<script>(() => {{ {_asset("figures.js")}{_asset("page.js")} }})();</script>
</body></html>
"""


NOTE = """Below each figure stand its keys in <code>metrics.jsonl</code>; <code>docs/metrics.md</code> defines them.
Shares are shown in percent and are fractions in the files. Evaluations are never smoothed. A shaded band is the 95%
interval of an evaluation; of a run with several seeds the line is their mean, and the band goes from the lowest seed to
the highest."""

CONTROLS = f"""<div class="controls" role="group" aria-label="All figures"><div class="chips"></div>
<label>Smoothing <input type="range" id="smoothing" min="0" max="0.95" step="0.05" value="{DEFAULT_SMOOTHING}">
<output id="smoothing-value" for="smoothing">{DEFAULT_SMOOTHING}</output></label>
<label><span class="word">Theme</span> <select id="theme" autocomplete="off"><option value="system">System</option>
<option value="light">Light</option><option value="dark">Dark</option></select></label></div>"""


def _chapter(chapter: Chapter, drawn: Mapping[str, Columns]) -> str:
    there = [figure for figure in chapter.figures if _has_data(figure, drawn)]
    figures = "".join(map(_figure, there))
    missing = ", ".join(escape(figure.title) for figure in chapter.figures if figure not in there)
    left_out = f'<p class="nodata">Nothing to show: {missing}.</p>' if missing else ""
    title = f'<summary><h2 id="{_id(chapter.title)}">{chapter.title}</h2></summary>'
    return f'<details class="chapter" open>{title}<div class="figures">{figures}</div>{left_out}</details>'


def _has_data(figure: Figure, drawn: Mapping[str, Columns]) -> bool:
    return any(figure.x.key in run and series.key in run for run in drawn.values() for series in figure.series)


def _figure(figure: Figure) -> str:
    keys = ", ".join(f"<code>{key}</code>" for key in figure.needs())
    title = escape(figure.title)
    button = f'<button class="csv" type="button" aria-label="CSV of {title}">CSV</button>'
    plot = '<ul class="legend"></ul><div class="plot"></div>'
    return (
        f'<figure data-figure="{all_figures().index(figure)}" aria-label="{title}">'
        f'<div class="head"><h3>{title}</h3>{button}</div>'
        f"<p>{escape(figure.look_for)}</p>{plot}<figcaption>{keys}</figcaption></figure>"
    )


def _script_data(groups: Sequence[RunGroup], drawn: Mapping[str, Columns]) -> str:
    data = {
        "arms": [asdict(arm) for arm in groups],
        "runs": drawn,
        "figures": [{**asdict(figure), "keys": figure.needs()} for figure in all_figures()],
    }
    return json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")


def _id(title: str) -> str:
    return title.lower().replace(" ", "-")


def _asset(name: str) -> str:
    return (files("fipo.report") / "assets" / name).read_text(encoding="utf-8")
