import gzip
import json
import random
from dataclasses import replace

import pytest

from fipo.errors import UserError
from fipo.study.archive import SPREAD, Archive, ArchivedRun, read_archive, write_archive
from fipo.study.config import load_study
from fipo.study.outcome import markdown, outcome_of
from fipo.study.study import write_outcome
from fipo.telemetry.run_directory import RunDirectory

ARMS = '[arms.fipo]\ntitle = "FIPO"\n[arms.dapo]\nrecipe = { objective = { preset = "dapo" } }\n'


def lines(reward: float, avg: float = 0.5) -> list[dict[str, float]]:
    return [
        {"step": 0, "eval/avg_at_k": 0.25, "eval/response_length/mean": 20.0},
        {"step": 1, "reward/mean": reward - 0.1},
        {"step": 2, "reward/mean": reward + 0.1, "eval/avg_at_k": avg, "eval/response_length/mean": 30.0},
    ]


@pytest.fixture
def study(write_study):
    return load_study(write_study(ARMS, seeds=3), {})[0]


@pytest.fixture
def runs():
    rewards = {"fipo": [0.4, 0.6, 0.8], "dapo": [0.1, 0.4, 0.5]}
    return [
        ArchivedRun(arm=arm, seed=seed, recipe="", failure=None, lines=lines(reward))
        for arm, own in rewards.items()
        for seed, reward in enumerate(own)
    ]


def test_arms_are_means_over_seeds_and_contrasts_are_paired_by_seed(study, runs):
    outcome = outcome_of(study, runs)
    assert outcome.arms["fipo"]["reward"].mean == pytest.approx(0.6)
    reward = outcome.contrasts[0]
    assert (reward.a, reward.b, reward.endpoint) == ("fipo", "dapo", "reward")
    assert reward.difference.mean == pytest.approx((0.3 + 0.2 + 0.3) / 3)
    assert reward.p == 2 / 8


def test_failed_runs_are_counted_and_leave_their_pair_out(study, runs):
    failed = ArchivedRun(arm="dapo", seed=1, recipe="", failure="out of memory", lines=lines(99.0))
    outcome = outcome_of(study, [failed if (run.arm, run.seed) == ("dapo", 1) else run for run in runs])
    assert outcome.failed == {"fipo": 0, "dapo": 1}
    assert outcome.contrasts[0].difference.seeds == 2
    assert outcome.arms["dapo"]["reward"].mean == pytest.approx(0.3)


def test_the_tables_name_arms_by_their_titles_and_state_the_method(study, runs):
    text = markdown(study, outcome_of(study, runs))
    assert "| FIPO - dapo | 3 | +0.2667 [" in text
    assert "paired by seed" in text and "Holm" in text


@pytest.fixture
def begun(write_study):
    """The jobs of a study of one seed; the first has written three lines."""
    _, jobs = load_study(write_study(ARMS, seeds=1), {})
    run = RunDirectory(jobs[0].folder)
    run.create({})
    for line in lines(1 / 3):
        run.append_metrics({**line, "time/step": 1.0})
    return jobs


def test_an_archive_gives_back_what_the_runs_wrote_to_six_digits(begun, tmp_path):
    archive = Archive(tmp_path / "metrics.jsonl.gz")
    archive.add(begun[0])
    archive.add(begun[1], "exited")
    again = Archive(archive.path)
    assert again.runs == archive.runs
    first, second = (again.runs[job.name] for job in begun)
    assert (first.arm, first.seed, first.failure) == ("fipo", 0, None)
    assert [line["step"] for line in first.lines] == [0, 1, 2]
    assert first.lines[1] == {"step": 1, "reward/mean": 0.233333}
    assert (second.failure, second.lines) == ("exited", [])
    assert [again.finished(job) for job in begun] == [True, False]
    before = archive.path.read_bytes()
    again.add(begun[0])
    assert archive.path.read_bytes() == before


def test_an_archive_is_of_one_recipe(begun, tmp_path):
    archive = Archive(tmp_path / "metrics.jsonl.gz")
    archive.add(begun[0])
    archive.check(begun)
    faster = begun[0].recipe.model_copy(
        update={"update": begun[0].recipe.update.model_copy(update={"learning_rate": 1.0})}
    )
    with pytest.raises(UserError, match=r"metrics\.jsonl\.gz: fipo_seed_0 was run with another recipe"):
        archive.check([replace(begun[0], recipe=faster)])
    resaved = begun[0].recipe.model_copy(
        update={"checkpoint": begun[0].recipe.checkpoint.model_copy(update={"every": 9})}
    )
    archive.check([replace(begun[0], recipe=resaved)])


def test_archived_runs_that_are_not_of_the_study_are_ignored_and_stay(study, runs, write_study, tmp_path):
    smaller = load_study(write_study(ARMS, seeds=2), {})[0]
    outcome = outcome_of(smaller, runs)
    assert (outcome.ended, outcome.contrasts[0].difference.seeds) == (4, 2)
    write_archive(tmp_path / "a.gz", runs)
    assert len(Archive(tmp_path / "a.gz").runs) == 6


def test_an_outcome_of_some_runs_says_how_many_are_missing(study, runs):
    missing = "So far: 5 of 6 runs."
    assert missing in markdown(study, outcome_of(study, runs[:5]))
    assert "So far" not in markdown(study, outcome_of(study, runs))


def test_before_the_first_run_has_ended_there_are_empty_tables_and_figures(study, tmp_path):
    assert write_outcome(study, [], tmp_path).contrasts == []
    assert "So far: 0 of 6 runs." in (tmp_path / "outcome.md").read_text()


def test_an_archived_run_says_how_far_its_spread_is_from_that_of_flipped_log_ratios(begun, tmp_path):
    job = begun[0]
    rng = random.Random(0)
    RunDirectory(job.folder).write_config({"resolved": {"objective": {"half_life": 32.0, "dual_clip": 10.0}}})
    for trend, expected in ((0.0, 1.0), (0.1, 2.0)):
        rows = [[trend * (1 if i < 20 else -1) + rng.gauss(0, 0.1) for i in range(40)] for _ in range(100)]
        common = {"response": "", "tokens": ["x"] * 40, "mini_batch": 1}
        RunDirectory(job.folder).write_rollouts(2, [{**common, "log_ratio": row} for row in rows])
        archive = Archive(tmp_path / "metrics.jsonl.gz")
        archive.add(job)
        last = archive.runs[job.name].lines[-1]
        assert last[SPREAD] == pytest.approx(expected, rel=0.35)
        assert last[f"{SPREAD}/low"] < 1 < last[f"{SPREAD}/high"]


@pytest.mark.parametrize("line", [None, b"{}", b"[1]", b"text"], ids=["no gzip", "no run", "a list", "no JSON"])
def test_what_is_no_archive_is_named(line, tmp_path):
    (tmp_path / "a.gz").write_bytes(b"plain" if line is None else gzip.compress(line + b"\n"))
    with pytest.raises(UserError, match=r"a\.gz: not an archive of a study"):
        read_archive(tmp_path / "a.gz")
    with pytest.raises(UserError, match="no such archive"):
        read_archive(tmp_path / "b.gz")


def test_a_difference_in_reward_is_told_as_learning_speed(study, runs):
    """A run whose reward is a straight line through 0 gains its mean once more if it learns twice as fast."""
    slopes = {"dapo": 0.1, "fipo": 0.11}  # fipo learns a tenth faster
    steady = [
        replace(run, lines=[{"step": step, "reward/mean": slopes[run.arm] * step / 100} for step in range(1, 101)])
        for run in runs
    ]
    outcome = outcome_of(study, steady)
    assert outcome.speed_scale == pytest.approx(0.05, abs=0.006)
    assert "| FIPO - dapo | 3 | +11.2 [+11.2, +11.2] |" in markdown(study, outcome)


def test_tables_and_figures_come_from_the_archive_alone(study, runs, tmp_path):
    write_archive(tmp_path / "metrics.jsonl.gz", runs)
    outcome = write_outcome(study, read_archive(tmp_path / "metrics.jsonl.gz"), tmp_path)
    assert outcome == outcome_of(study, runs)
    assert json.loads((tmp_path / "outcome.json").read_text())["failed"] == {"fipo": 0, "dapo": 0}
    assert (tmp_path / "outcome.md").read_text() == markdown(study, outcome)
    assert all((tmp_path / name).read_bytes().startswith(b"\x89PNG") for name in ("curves.png", "contrasts.png"))
