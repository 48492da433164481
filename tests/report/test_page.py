import html
import json
import re
from html.parser import HTMLParser

import pytest

from fipo.errors import UserError
from fipo.report import write_report
from fipo.report.figures import CHAPTERS, all_figures
from fipo.telemetry.run_directory import RunDirectory


class Page(HTMLParser):
    """What a browser would load, and what it would show outside of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.loaded, self.tags, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        wanted = [value for name, value in attributes if name in ("src", "href", "data", "action", "poster")]
        self.loaded += [value for value in wanted if not value.startswith("#")]

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


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="report-data">(.*?)</script>', page)[1])


def test_the_page_loads_nothing_from_anywhere(page):
    assert Page(page).loaded == []
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert styles and not any("url(" in style or "@import" in style for style in styles)


def test_the_page_shows_every_figure_with_its_title_what_to_look_for_and_its_keys(page):
    figures = re.findall(r"<figure .*?</figure>", page, re.DOTALL)
    assert len(figures) == len(all_figures())
    for shown, figure in zip(figures, all_figures(), strict=True):
        assert f"<h3>{html.escape(figure.title)}</h3>" in shown
        assert f"<p>{html.escape(figure.look_for)}</p>" in shown
        assert re.findall("<code>(.*?)</code>", shown) == figure.needs()


def test_the_page_is_one_file_named_after_the_run(page, folder):
    assert re.search(r"<title>(.*?)</title>", page)[1] == "fipo: first"
    assert [path.name for path in folder.iterdir()] == ["report.html"]


def test_the_page_holds_the_numbers_of_the_run_as_they_were_written(make_run, tmp_path):
    run = make_run()
    write_report([run], tmp_path / "report.html")
    columns = data_of((tmp_path / "report.html").read_text(encoding="utf-8"))["runs"]["first"]
    for row, line in enumerate(run.read_metrics()):
        there = {key: values[row] for key, values in columns.items() if values[row] is not None}
        assert there == {key: value for key, value in line.items() if key != "time/eval"}


def test_a_name_is_text_and_not_html(make_run, tmp_path):
    names = ["a<img src=x>", "b<!--<script>", "c\"'&amp;"]
    out = tmp_path / "report.html"
    write_report([make_run(name) for name in names], out)
    text = out.read_text(encoding="utf-8")
    page = Page(text)
    assert "img" not in page.tags and page.loaded == []
    assert all(name in page.text for name in names)
    assert list(data_of(text)["runs"]) == names


def test_figures_whose_keys_no_run_has_are_named_in_one_line_of_their_chapter(tmp_path):
    run = RunDirectory(tmp_path / "bare")
    run.create({})
    run.append_metrics({"step": 1, "reward/mean": 0.5})
    write_report([run], run.report)
    page = run.report.read_text(encoding="utf-8")
    assert page.count("<figure ") == page.count('<div class="plot">') == 1
    signal = "Nothing to show: Held-out reward, Generation batches, Length-weighted advantage."
    assert page.count("Nothing to show: ") == len(CHAPTERS) and signal in page


def test_a_run_that_has_only_begun_gets_a_page_too(tmp_path):
    run = RunDirectory(tmp_path / "new")
    run.create({})
    write_report([run], run.report)
    assert "<h1>new</h1>" in run.report.read_text(encoding="utf-8")


def test_the_report_of_several_runs_names_them_all(make_run, tmp_path):
    write_report([make_run("fipo"), make_run("dapo", preset="release_32b")], tmp_path / "both.html")
    page = (tmp_path / "both.html").read_text(encoding="utf-8")
    assert "<h1>fipo, dapo</h1>" in page
    assert [arm["name"] for arm in data_of(page)["arms"]] == ["fipo", "dapo"]


def test_a_place_that_cannot_be_written_is_named_in_one_line(make_run, tmp_path):
    out = tmp_path / "no such folder" / "report.html"
    with pytest.raises(UserError) as error:
        write_report([make_run()], out)
    assert str(error.value) == f"{out}: must be a file in an existing folder, got none: there is no such folder"
