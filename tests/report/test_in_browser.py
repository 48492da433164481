"""The report as a browser shows it: figures, switches, smoothing, CSV, themes, a phone."""

import csv
import json
import re

import pytest
from playwright.sync_api import Locator, Page

from fipo.report import write_report
from fipo.report.figures import CHAPTERS, all_figures
from fipo.telemetry.run_directory import RunDirectory

pytestmark = pytest.mark.browser

ALL_DRAWN = "[...document.querySelectorAll('.plot')].every(plot => plot.data)"
NAMES = "[...document.querySelectorAll('.plot')].map(plot => plot.data.map(trace => trace.name).filter(Boolean))"
BACKGROUND = "getComputedStyle(document.body).backgroundColor"
EVERYTHING = {"width": 1280, "height": 12000}  # every figure is in view


def shown(open_page, runs: list[RunDirectory], **options) -> Page:
    out = runs[0].path / "report.html"
    write_report(runs, out)
    return open_page(out, **options)


def draw_all(page: Page) -> None:
    page.set_viewport_size(EVERYTHING)
    page.wait_for_function(ALL_DRAWN)


def figure(page: Page, title: str) -> Locator:
    return page.locator("figure", has=page.get_by_role("heading", name=title, exact=True))


def plot_of(page: Page, title: str) -> Locator:
    """The figure's plot, in view and drawn."""
    plot = figure(page, title).locator(".plot")
    plot.scroll_into_view_if_needed()
    plot.locator(".nsewdrag").wait_for()
    return plot


def lines(page: Page, title: str) -> dict[str, list[float]]:
    """{name: values} of the lines that hovering names."""
    return plot_of(page, title).evaluate(
        "plot => Object.fromEntries(plot.data.filter(t => t.name).map(t => [t.name, Array.from(t.y)]))"
    )


def bands(page: Page, title: str) -> list[dict[str, list[float]]]:
    return plot_of(page, title).evaluate(
        "plot => plot.data.filter(t => t.fill).map(t => ({x: Array.from(t.x), y: Array.from(t.y)}))"
    )


def smooth(page: Page, title: str, weight: float) -> None:
    drawn = plot_of(page, title).element_handle()
    page.evaluate("plot => { window.before = plot.data }", drawn)
    page.locator("#smoothing").fill(str(weight))
    page.wait_for_function("plot => plot.data !== window.before", arg=drawn)


def downloaded(page: Page, title: str) -> list[dict[str, str]]:
    page.wait_for_timeout(120)  # Chromium drops more than ten downloads a second
    with page.expect_download() as download:
        figure(page, title).get_by_role("button").filter(has_text="CSV").click()
    with open(download.value.path(), encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_figures_are_drawn_when_they_come_into_view(make_run, open_page):
    page = shown(open_page, [make_run()])
    page.wait_for_function("document.querySelector('.plot').data")
    assert not page.evaluate(ALL_DRAWN)
    draw_all(page)
    assert page.locator(".plot .main-svg").count() >= len(all_figures())


def test_a_chip_hides_its_run_in_every_figure_and_shows_it_again(make_run, open_page):
    page = shown(open_page, [make_run("fipo", preset="release_32b"), make_run("dapo")])
    draw_all(page)
    assert all(any(name.startswith("fipo") for name in names) for names in page.evaluate(NAMES))
    chip = page.get_by_role("button", name="fipo", exact=True)
    chip.click()
    page.wait_for_function(f"!JSON.stringify({NAMES}).includes('fipo')")
    assert chip.get_attribute("aria-pressed") == "false"
    assert all(any(name.startswith("dapo") for name in names) for names in page.evaluate(NAMES))
    assert {row["run"] for row in downloaded(page, "Reward")} == {"dapo"}
    assert page.locator(".legend", has_text="fipo").count() == 0
    chip.click()
    page.wait_for_function(f"{NAMES}.every(names => names.some(name => name.startsWith('fipo')))")


def test_smoothing_changes_the_line_but_neither_evaluations_with_their_interval_nor_the_csv(make_run, open_page):
    run = make_run()
    page = shown(open_page, [run])
    written = [line["reward/mean"] for line in run.read_metrics() if "reward/mean" in line]
    evaluations = [line for line in run.read_metrics() if "eval/avg_at_k" in line]
    evaluated = [line["eval/avg_at_k"] for line in evaluations]
    smooth(page, "Reward", 0)
    assert lines(page, "Reward") == {"first": written}
    smooth(page, "Reward", 0.5)
    second = (0.5 * written[0] + written[1]) / 1.5
    assert lines(page, "Reward")["first"][:2] == pytest.approx([written[0], second])
    assert lines(page, "Accuracy against response length")["first"] == evaluated
    highs, lows = ([line[f"eval/ci/avg_at_k/{end}"] for line in evaluations] for end in ("high", "low"))
    assert bands(page, "Held-out accuracy: avg@k and cons@k") == [{"x": [0, 2, 4, 4, 2, 0], "y": [*highs, *lows[::-1]]}]
    assert [float(row["reward/mean"]) for row in downloaded(page, "Reward")] == written


def test_the_csv_of_each_figure_is_what_metrics_jsonl_says(make_run, open_page):
    runs = [make_run("fipo", preset="release_32b"), make_run('a "quoted", name')]
    page = shown(open_page, runs)
    recorded = {key for run in runs for line in run.read_metrics() for key in line}
    drawn = [figure for figure in all_figures() if recorded & {*figure.needs()}]
    assert len(drawn) > 15
    for wanted in drawn:
        rows = downloaded(page, wanted.title)
        assert list(rows[0]) == ["run", "step", *wanted.needs()]
        expected = [
            (run.path.name, line["step"], *(line.get(key) for key in wanted.needs()))
            for run in runs
            for line in run.read_metrics()
            if any(key in line for key in wanted.needs())
        ]
        read = [(row.pop("run"), *(json.loads(value or "null") for value in row.values())) for row in rows]
        assert read == expected


def test_seeds_are_one_line_their_mean_with_a_band_as_far_as_all_of_them_have_come(make_run, open_page):
    runs = [make_run(f"sums_s{seed}", seed=seed, steps=4 - seed // 2) for seed in range(3)]
    page = shown(open_page, runs)
    smooth(page, "Reward", 0)
    values = [[line["reward/mean"] for line in run.read_metrics() if "reward/mean" in line] for run in runs]
    first, second, third = (seed[:3] for seed in values)
    means = [sum(seeds) / 3 for seeds in zip(first, second, third, strict=True)]
    assert lines(page, "Reward") == {"sums": pytest.approx(means)}
    assert bands(page, "Reward") == [{"x": [1, 2, 3, 3, 2, 1], "y": [*third, *first[::-1]]}]
    assert page.locator(".chip").all_inner_texts() == ["sums (seeds 0, 1, 2)"]
    rows = downloaded(page, "Reward")
    assert [float(row["reward/mean"]) for row in rows] == [value for seed in values for value in seed]


def test_lines_that_coincide_differ_in_colour_and_dash(make_run, open_page):
    page = shown(open_page, [make_run(f"run {i}", preset=str(i)) for i in range(8)])
    styles = plot_of(page, "Reward").evaluate(
        "plot => plot.data.filter(t => t.name).map(t => `${t.line.color} ${t.line.dash}`)"
    )
    assert len(set(styles)) == len(styles) == 8


def test_a_run_without_an_evaluation_and_one_with_few_keys_are_drawn_where_they_can(make_run, tmp_path, open_page):
    bare = RunDirectory(tmp_path / "bare")
    bare.create({"run": {"name": "bare"}})
    for step in range(1, 4):
        bare.append_metrics({"step": step, "reward/mean": 0.5, **({"policy/kl": 0.1} if step == 2 else {})})
    page = shown(open_page, [bare])
    assert page.locator(".plot").count() == 2
    assert lines(page, "Policy KL") == {"bare": [0.1]}
    assert figure(page, "Entropy").count() == 0
    both = shown(open_page, [make_run(), bare])
    assert list(lines(both, "Entropy")) == ["first"]
    assert list(lines(both, "Reward")) == ["first", "bare"]


def test_the_first_step_is_to_be_seen_before_there_is_a_second(make_run, open_page):
    plot = plot_of(shown(open_page, [make_run(steps=1)]), "Reward")
    assert plot.locator(".point").count() == 1


def test_the_legend_names_the_series_that_a_run_has(tmp_path, open_page):
    run = RunDirectory(tmp_path / "first")
    run.create({"run": {"name": "first"}})
    for step in (1, 2):
        run.append_metrics({"step": step, "response_length/p75": 2.0, "response_length/p25": 1.0})
    page = shown(open_page, [run])
    plot_of(page, "Response length: minimum and quartiles")
    legend = figure(page, "Response length: minimum and quartiles").locator(".legend li")
    assert legend.all_inner_texts() == ["first", "● p75", "◆ p25"]


def test_two_runs_are_two_lines_in_every_figure_of_the_speed(make_run, open_page):
    page = shown(open_page, [make_run("fipo", preset="release_32b"), make_run("dapo")])
    for wanted in next(chapter for chapter in CHAPTERS if chapter.title == "Speed").figures:
        assert list(lines(page, wanted.title)) == ["fipo", "dapo"]


def test_a_large_number_on_an_axis_is_written_out(make_run, open_page):
    run = make_run()
    lines = [line | {"time/tokens_per_second": 12345.0 + line["step"]} for line in run.read_metrics()]
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ticks = plot_of(shown(open_page, [run]), "Tokens per second").locator(".ytick text").all_text_contents()
    assert ticks and all(re.fullmatch(r"12,34\d(\.\d+)?", tick) for tick in ticks)


def test_the_page_says_what_the_task_is_what_f_is_and_what_good_looks_like_before_any_key(make_run, open_page):
    text = shown(open_page, [make_run()]).inner_text("body")
    told = ["This page.", "What f is.", "What good looks like.", "metrics.jsonl"]
    at = [text.index(title) for title in told]
    assert at == sorted(at)


def test_a_phone_reaches_the_token_credit_from_the_top(make_run, open_page):
    page = shown(open_page, [make_run()], width=390)
    link = page.get_by_role("link", name="Token credit")
    assert link.bounding_box()["y"] < 200
    link.tap()
    page.wait_for_function("document.getElementById('credit').getBoundingClientRect().top < 844")


def test_on_a_phone_all_chapters_but_the_first_are_closed_until_a_link_or_a_print_opens_them(make_run, open_page):
    page = shown(open_page, [make_run()], width=390)
    is_open = "[...document.querySelectorAll('.chapter')].map(chapter => chapter.open)"
    assert page.evaluate(is_open) == [True, *[False] * (len(CHAPTERS) - 1)]
    page.get_by_role("link", name="Policy").tap()
    page.wait_for_function("document.getElementById('policy').closest('details').open")
    page.get_by_role("heading", name="Speed").tap()
    page.wait_for_function("document.getElementById('speed').closest('details').open")
    assert sum(page.evaluate(is_open)) == 3
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert all(page.evaluate(is_open))


def test_a_computer_shows_every_chapter(make_run, open_page):
    page = shown(open_page, [make_run()])
    assert page.locator(".chapter[open]").count() == len(CHAPTERS)


def test_the_theme_follows_the_system_until_it_is_chosen(make_run, open_page):
    page = shown(open_page, [make_run()], dark=True)
    plot = plot_of(page, "Reward")
    dark = page.evaluate(BACKGROUND)
    assert plot.evaluate("plot => plot.layout.paper_bgcolor") == "#1b1f24"
    page.evaluate("document.addEventListener('themechange', () => { window.heard = true })")
    page.get_by_label("Theme").select_option("light")
    page.wait_for_function("plot => plot.layout.paper_bgcolor === '#fff'", arg=plot.element_handle())
    assert page.evaluate(BACKGROUND) != dark
    assert page.evaluate("window.heard")
    page.emulate_media(color_scheme="light")
    page.get_by_label("Theme").select_option("system")
    assert page.evaluate(BACKGROUND) != dark
    page.get_by_label("Theme").select_option("dark")
    assert page.evaluate(BACKGROUND) == dark


def test_a_phone_shows_one_column_without_scrolling_sideways(make_run, open_page):
    page = shown(open_page, [make_run("fipo", preset="a"), make_run("a_long_name_" * 8)], width=390)
    page.locator(".plot").first.scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('.plot').data")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    caption, drawn = (
        page.locator("figcaption").first.bounding_box(),
        page.locator(".plot .main-svg").first.bounding_box(),
    )
    assert drawn["y"] + drawn["height"] <= caption["y"] + 1
    shown_figures = page.locator(".chapter[open] figure")
    assert len(set(shown_figures.evaluate_all("all => all.map(one => one.getBoundingClientRect().x)"))) == 1
    heights = page.locator(".controls button, .controls select").evaluate_all(
        "all => all.map(one => one.getBoundingClientRect().height)"
    )
    assert min(heights) >= 44


def test_names_that_look_like_html_are_shown_as_text(make_run, open_page):
    names = ["<script>window.bad=1<", "<b>bold<b>&amp;", "\"%{x}'"]
    page = shown(open_page, [make_run(name, preset=name) for name in names])
    assert page.locator(".chip").all_inner_texts() == names
    plot = plot_of(page, "Reward")
    plot.locator(".nsewdrag").hover()
    plot.locator(".hoverlayer text").first.wait_for()
    hovered = plot.locator(".hoverlayer").text_content()
    assert all(name in hovered for name in names)
    assert page.evaluate("window.bad") is None


def test_print_shows_every_figure_in_light_colours_and_no_controls(make_run, open_page):
    page = shown(open_page, [make_run()], dark=True)
    page.evaluate(
        "addEventListener('afterprint', () => { window.printed = document.querySelectorAll('.main-svg').length })"
    )
    page.evaluate("addEventListener('beforeprint', () => { window.colour = getComputedStyle(document.body).color })")
    page.pdf()
    assert page.evaluate(ALL_DRAWN)
    assert page.evaluate("window.colour") == "rgb(28, 33, 39)"
    page.emulate_media(media="print")
    assert not page.locator(".controls").is_visible()


def test_a_figure_that_is_zero_at_every_step_says_so_in_words(make_run, open_page):
    run = make_run("fipo")
    lines = [line | {"policy/dual_clip_fraction": 0.0} for line in run.read_metrics()]
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = shown(open_page, [run])
    notes = "plot => (plot.layout.annotations || []).map(note => note.text)"
    assert plot_of(page, "Dual-clipped tokens").evaluate(notes) == ["0 at every step"]
    assert plot_of(page, "Gradient norm").evaluate(notes) == []


@pytest.mark.parametrize("name", ["=cmd()", "+1+1", "-2+3", "@SUM(1)", "\t=x"])
def test_a_run_named_like_a_formula_is_a_text_in_the_csv(name, make_run, open_page):
    run = make_run(name)
    rows = downloaded(shown(open_page, [run]), "Reward")
    assert {row["run"] for row in rows} == {f"'{name}"}
    assert rows[0]["reward/mean"] == str(run.read_metrics()[1]["reward/mean"])
