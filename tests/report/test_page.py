import html
import re
from html.parser import HTMLParser

import pytest

from fipo.errors import UserError
from fipo.report import write_report
from fipo.report.page import FIGURES, draw
from fipo.telemetry.run_directory import RunDirectory


class Page(HTMLParser):
    """What a browser would load, and what it would show outside of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.tags, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.loaded += [value for name, value in attributes if name in ("src", "href", "data", "action", "poster")]

    def handle_data(self, data):
        if self.tags[-1:] not in (["script"], ["style"]):
            self.text += data


@pytest.fixture(scope="module")
def folder(finished_run, tmp_path_factory):
    """A folder with the report of one run in it and nothing else."""
    folder = tmp_path_factory.mktemp("report")
    run = finished_run(tmp_path_factory.mktemp("runs") / "first")
    write_report([run], folder / "report.html")
    return folder


@pytest.fixture(scope="module")
def page(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


def test_the_page_loads_nothing_from_anywhere(page):
    assert Page(page).loaded == []
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert styles and not any("url(" in style or "@import" in style for style in styles)


def test_the_page_brings_the_code_that_draws(page):
    assert "plotly.js v" in page
    assert page.count("Plotly.newPlot(") >= len(FIGURES)


def test_the_page_shows_every_figure_with_its_title_and_what_to_look_for(page):
    titles = re.findall(r"<h2>(.*?)</h2>", page)
    assert [html.unescape(title) for title in titles] == [figure.title for figure in FIGURES]
    for figure in FIGURES:
        assert f"<p>{html.escape(figure.look_for)}</p>" in page


def test_the_page_is_one_file_named_after_the_run(page, folder):
    assert re.search(r"<title>(.*?)</title>", page)[1] == "fipo: first"
    assert [path.name for path in folder.iterdir()] == ["report.html"]


def test_a_name_is_text_and_not_html(make_run, tmp_path):
    out = tmp_path / "report.html"
    write_report([make_run("a<img src=x>")], out)
    page = Page(out.read_text(encoding="utf-8"))
    assert "img" not in page.tags and page.loaded == []
    assert "a<img src=x>" in page.text


@pytest.mark.parametrize("figure", FIGURES, ids=[figure.title for figure in FIGURES])
def test_a_figure_draws_its_metrics_and_nothing_else(figure, make_run):
    lines = make_run().read_metrics()
    plot = draw(figure, {"first": lines})
    curves = plot.data[1:] if figure.interval else plot.data
    assert len(curves) == len(figure.keys)
    for key, curve in zip(figure.keys, curves, strict=True):
        points = [(line["step"], line[key]) for line in lines if key in line]
        assert points
        assert list(zip(curve.x, curve.y, strict=True)) == points


def test_the_accuracy_figure_shades_its_interval(make_run):
    (figure,) = [figure for figure in FIGURES if figure.interval]
    lines = [line for line in make_run().read_metrics() if "eval/avg_at_k" in line]
    band = draw(figure, {"first": lines}).data[0]
    assert band.fill == "toself"
    assert list(band.x) == [0, 2, 4, 4, 2, 0]
    highs, lows = list(band.y[:3]), list(band.y[3:])[::-1]
    assert highs == [line["eval/ci/avg_at_k/high"] for line in lines]
    assert lows == [line["eval/ci/avg_at_k/low"] for line in lines]


def curves_of(figure, runs):
    return [trace for trace in draw(figure, runs).data if trace.fill is None]


def test_runs_are_overlaid_each_in_its_own_colour(make_run):
    runs = {name: make_run(name).read_metrics() for name in ("fipo", "dapo", "grpo")}
    for figure in FIGURES:
        curves = curves_of(figure, runs)
        for name in runs:
            own = [curve for curve in curves if curve.name.startswith(name)]
            assert len(own) == len(figure.keys)
            assert len({curve.line.color for curve in own}) == 1
        assert len({curve.line.color for curve in curves}) == 3


def test_curves_of_one_run_differ_in_dash_and_in_name(make_run):
    lines = make_run().read_metrics()
    for figure in FIGURES:
        curves = curves_of(figure, {"first": lines})
        assert len({curve.line.dash for curve in curves}) == len({curve.name for curve in curves}) == len(curves)


def test_the_report_of_several_runs_names_them_all(make_run, tmp_path):
    write_report([make_run("fipo"), make_run("dapo")], tmp_path / "both.html")
    page = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert "<h1>fipo, dapo</h1>" in page
    assert '"name":"fipo"' in page and '"name":"dapo"' in page


def test_two_runs_of_one_name_in_different_folders_are_both_shown(make_run, tmp_path):
    runs = [make_run("monday/first"), make_run("tuesday/first")]
    write_report(runs, tmp_path / "both.html")
    page = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert f"<h1>{runs[0].path}, {runs[1].path}</h1>" in page


def test_more_runs_than_colours_are_still_drawn(make_run):
    runs = {f"run {i}": make_run(f"run {i}").read_metrics() for i in range(8)}
    assert len(curves_of(FIGURES[2], runs)) == 8


def test_a_run_that_has_only_begun_gets_a_page_too(tmp_path):
    run = RunDirectory(tmp_path / "new")
    run.create({})
    write_report([run], run.report)
    assert "<h1>new</h1>" in run.report.read_text(encoding="utf-8")


def test_a_place_that_cannot_be_written_is_named_in_one_line(make_run, tmp_path):
    out = tmp_path / "no such folder" / "report.html"
    with pytest.raises(UserError) as error:
        write_report([make_run()], out)
    assert str(error.value) == f"{out}: cannot write the report: not a file in an existing folder"
