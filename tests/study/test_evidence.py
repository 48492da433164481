"""The tables that docs/evidence.md rests on are what the archived metrics say."""

import json
from pathlib import Path

import pytest

from fipo.study.archive import read_archive
from fipo.study.config import load_study
from fipo.study.outcome import markdown, outcome_of

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


def test_every_published_run_is_of_the_design_and_of_the_recipe_that_is_committed(published):
    _, jobs, runs, _ = published
    assert {run.name: run.recipe for run in runs}.items() <= {job.name: job.fingerprint for job in jobs}.items()


def test_with_one_mini_batch_fipo_and_dapo_are_the_same_run(published):
    _, _, runs, _ = published
    by_name = {run.name: run for run in runs}
    for run in runs:
        if run.arm == "fipo_m1":
            other = by_name[f"dapo_m1_seed_{run.seed}"]
            rewards = [[line.get("reward/mean") for line in each.lines] for each in (run, other)]
            assert rewards[0] == rewards[1]
