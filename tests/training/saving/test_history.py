"""Which checkpoints a run can go on from, by what it has written down."""

import shutil
from pathlib import Path

import pytest

from fipo.errors import UserError
from fipo.telemetry.run_directory import RunDirectory
from fipo.training.saving.history import HISTORY, FoundHistory, WrittenHistory

CONFIG = {"run": {"steps": 9}, "checkpoint": {"every": 2}, "eval": {"every": 4}}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """Steps 0 to 4, with rollouts; the checkpoints of steps 2 and 4 are the files that vouch."""
    run = RunDirectory(tmp_path / "run")
    run.create(CONFIG)
    write(run, WrittenHistory(run), range(5))
    return run


def write(run: RunDirectory, history: WrittenHistory, steps: range) -> None:
    for step in steps:
        files = [run.write_rollouts(step, [{"response": str(step)}])] if step else []
        history.append({"step": step, "reward/mean": step / 3, "time/step": 0.1}, files)
        if step and step % 2 == 0:
            checkpoint(run, step).mkdir(exist_ok=True)
            (checkpoint(run, step) / HISTORY).write_text(history.vouched())


def checkpoint(run: RunDirectory, step: int) -> Path:
    return run.checkpoints / f"step_{step:06d}"


def misfits(run: RunDirectory) -> list[str | None]:
    found = FoundHistory(run)
    return [found.misfit(checkpoint(run, step), step) for step in (2, 4)]


def test_a_run_that_was_left_in_peace_can_go_on_from_each(run: RunDirectory) -> None:
    assert misfits(run) == [None, None]


def test_lost_metrics_speak_against_every_checkpoint(run: RunDirectory) -> None:
    run.metrics.unlink()
    assert misfits(run) == [f"{run.metrics} must hold the steps 0 to {step} and holds none of them" for step in (2, 4)]


def test_metrics_that_end_early_speak_against_the_later_one(run: RunDirectory) -> None:
    run.metrics.write_text("".join(run.metrics.read_text().splitlines(keepends=True)[:4]))
    assert misfits(run) == [None, f"{run.metrics} must hold the steps 0 to 4 and holds the steps 0 to 3 alone"]


def test_another_number_in_a_line_is_noticed_and_another_time_is_not(run: RunDirectory) -> None:
    run.metrics.write_text(run.metrics.read_text().replace("0.1}", "0.2}"))
    assert misfits(run) == [None, None]
    run.metrics.write_text(run.metrics.read_text().replace('"reward/mean": 1.0', '"reward/mean": 7.0'))
    assert misfits(run) == [
        None,
        f"{run.metrics} is not what was written (its SHA-256 until step 4 is another)",
    ]


def test_other_rollouts_are_noticed_and_removed_ones_may_be_missing(run: RunDirectory) -> None:
    rollouts = run.rollouts / "step_000003.jsonl"
    rollouts.write_bytes(b"\0" * rollouts.stat().st_size)
    assert misfits(run) == [None, f"{rollouts} is not what was written (its SHA-256 is another)"]
    rollouts.unlink()
    assert misfits(run) == [None, None]
    assert FoundHistory(run).missing(checkpoint(run, 4)) == ["rollouts/step_000003.jsonl"]


def test_a_checkpoint_of_an_earlier_version_needs_the_steps_alone(run: RunDirectory) -> None:
    (checkpoint(run, 4) / HISTORY).unlink()
    run.metrics.write_text(run.metrics.read_text().replace('"reward/mean": 1.0', '"reward/mean": 7.0'))
    assert misfits(run) == [None, None]
    assert FoundHistory(run).missing(checkpoint(run, 4)) == []


@pytest.mark.parametrize("removed", ["nothing", "step_000001.jsonl"])
def test_a_rewound_history_vouches_for_the_same_again(run: RunDirectory, removed: str) -> None:
    expected = [(checkpoint(run, step) / HISTORY).read_text() for step in (2, 4)]
    (run.rollouts / removed).unlink(missing_ok=True)
    history, metrics = FoundHistory(run).rewound(2, checkpoint(run, 2))
    assert [line["step"] for line in metrics] == [line["step"] for line in run.read_metrics()] == [0, 1, 2]
    write(run, history, range(3, 5))
    assert [(checkpoint(run, step) / HISTORY).read_text() for step in (2, 4)] == expected


def test_the_best_step_is_known_without_reading(run: RunDirectory) -> None:
    history = WrittenHistory(run)
    run.metrics.unlink()
    seen = []
    for step, value in enumerate([0.9, 0.2, None, 0.5, 0.5, 0.1, 0.6]):
        history.append({"step": step} | ({} if value is None else {"eval/avg_at_k": value}))
        seen.append(history.best)
        run.metrics.unlink()  # nothing of it is read again
    assert seen == [None, 1, 1, 3, 3, 3, 6]


@pytest.mark.parametrize("folder", ["gone", "empty"])
def test_a_run_that_had_checkpoints_is_not_begun_again_without_them(run: RunDirectory, folder: str) -> None:
    shutil.rmtree(run.checkpoints)
    if folder == "empty":
        run.checkpoints.mkdir()
    with pytest.raises(UserError, match=r"its checkpoints are gone, and the run had got to step 4: bring them back"):
        FoundHistory(run).refuse_lost_checkpoints()
    run.metrics.unlink()  # the rollouts tell as much
    with pytest.raises(UserError, match="had got to step 4"):
        FoundHistory(run).refuse_lost_checkpoints()


def test_a_run_that_died_before_or_in_its_first_save_is_begun_again(run: RunDirectory) -> None:
    run.rewind([line for line, _ in run.whole_steps()[:3]])
    shutil.rmtree(checkpoint(run, 2))
    shutil.rmtree(checkpoint(run, 4))
    FoundHistory(run).refuse_lost_checkpoints()
