"""The tables that docs/evidence.md and its pages rest on are what the archived metrics say."""

import json
import re
from pathlib import Path

import pytest

from fipo.study.archive import read_archive
from fipo.study.config import load_study
from fipo.study.outcome import markdown, outcome_of
from fipo.study.statistics import estimate

ROOT = Path(__file__).parents[2]
STUDIES = sorted(path.parent.name for path in (ROOT / "docs" / "evidence").glob("*/metrics.jsonl.gz"))


@pytest.fixture(scope="module", params=STUDIES)
def published(request):
    """(study, its jobs, archived runs, its folder)."""
    study, jobs = load_study(ROOT / "recipe" / "study" / f"{request.param}.toml", {})
    return study, jobs, read_archive(ROOT / study.archive), ROOT / study.folder


def test_the_published_tables_are_those_of_the_archived_metrics(published):
    study, _, runs, folder = published
    outcome = outcome_of(study, runs)
    assert markdown(study, outcome) == (folder / "outcome.md").read_text()
    assert json.loads(json.dumps(outcome.as_json())) == close_to(json.loads((folder / "outcome.json").read_text()))


def close_to(value):
    """The last digits of sums differ between versions of numpy."""
    if isinstance(value, dict):
        return {key: close_to(each) for key, each in value.items()}
    if isinstance(value, list):
        return [close_to(each) for each in value]
    return pytest.approx(value, rel=1e-6, abs=1e-9) if isinstance(value, float) else value


def test_every_run_of_the_design_is_published_of_the_committed_recipe_and_whole(published):
    _, jobs, runs, _ = published
    by_name = {job.name: job for job in jobs}
    assert by_name.keys() == {run.name for run in runs}
    for run in runs:
        assert run.recipe == by_name[run.name].fingerprint
        assert run.failure or run.lines[-1]["step"] == by_name[run.name].recipe.run.steps


def test_with_one_mini_batch_fipo_and_dapo_are_the_same_run(published):
    _, _, runs, _ = published
    by_name = {run.name: run for run in runs}
    for run in runs:
        twin = by_name.get(f"dapo_m1_seed_{run.seed}")
        if run.arm == "fipo_m1" and twin:
            # Where f is exactly 1, it is at FIPO's lower bound and at both of DAPO's: the clip shares differ.
            lines = [[{k: v for k, v in line.items() if "clipped_" not in k} for line in r.lines] for r in (run, twin)]
            assert lines[0] == lines[1]


PAGES = [ROOT / "docs" / "evidence.md", *sorted((ROOT / "docs" / "evidence").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_result_in_a_table_of_a_page_is_one_of_the_outcomes(page):
    published = "".join(path.read_text() for path in (ROOT / "docs" / "evidence").glob("*/outcome.md"))
    for line in page.read_text().splitlines():
        if line.startswith("|") and re.search(r"[0-9]\.[0-9]{3}|\[[+-]?[0-9.]+, [+-]?[0-9.]+\]", line):
            assert line in published


def tables(page):
    """The lines of each table."""
    return [block.splitlines() for block in re.findall(r"(?:^\|.*\n?)+", page.read_text(), re.MULTILINE)]


def is_separator(line):
    return re.fullmatch(r"\|(?: ?-+ ?\|)+", line) is not None


def test_no_row_of_a_table_is_a_header():
    outcomes = (ROOT / "docs" / "evidence").glob("*/outcome.md")
    headers = {table[0] for page in (*PAGES, *outcomes) for table in tables(page)}
    for page in PAGES:
        for head, separator, *rows in tables(page):
            assert is_separator(separator), f"{page.name}: {head}"
            assert not [row for row in rows if row in headers or is_separator(row)], page.name


def test_the_pooled_accuracy_is_that_of_the_archived_runs():
    points = []
    for name in ("sums", "baselines"):
        runs = read_archive(ROOT / "docs" / "evidence" / name / "metrics.jsonl.gz")
        last = {run.name: run.lines[-1]["eval/avg_at_k"] for run in runs if run.arm in ("dapo", "fipo")}
        points += [100 * (last[key] - last[key.replace("fipo", "dapo")]) for key in last if key.startswith("fipo")]
    found = estimate(points)
    assert found.seeds == 40
    said = f"over the 40 of both, pooled afterwards, {-found.mean:.1f} [{found.low:.1f}, {found.high:+.1f}]"
    page = (ROOT / "docs" / "evidence" / "baselines.md").read_text()
    assert said.replace("+0.", "+.") in " ".join(page.split())


def test_the_page_is_short():
    assert len(PAGES[0].read_bytes()) <= 9000
