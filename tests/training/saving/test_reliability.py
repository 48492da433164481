"""Whole runs (see conftest.py) that meet NaN, damage, full disks, bad graders and Ctrl-C."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.faults.small_run import digests
from tests.telemetry.test_durable import largest_file
from tests.training.helpers import run_recipe

from fipo.errors import RunStopped, UserError
from fipo.telemetry.run_directory import RunDirectory
from fipo.telemetry.run_lock import run_lock
from fipo.training import loop, setup
from fipo.training.policy import setup as policy_setup
from fipo.training.saving.checkpoint import find_damage


@pytest.fixture
def poisoned_backward(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Put numbers in: the backward passes of a run, from 0, whose gradient becomes NaN."""
    poisoned: set[int] = set()
    load = policy_setup.load_as

    def load_with_hook(*arguments, **named):
        model, tokenizer = load(*arguments, **named)
        passes = iter(range(10_000))
        weight = next(model.parameters())
        weight.register_hook(lambda grad: grad * float("nan") if next(passes) in poisoned else grad)
        return model, tokenizer

    monkeypatch.setattr(policy_setup, "load_as", load_with_hook)
    return poisoned


def test_a_nan_skips_its_update_is_counted_and_leaves_its_batch(folder: Path, poisoned_backward: set[int]) -> None:
    poisoned_backward.add(2)  # the first update of step 2
    run = run_recipe(folder, "run")
    assert [line.get("update/skipped", 0) for line in run.read_metrics()] == [0, 0, 1, 0, 0]
    assert sorted(path.name for path in run.anomalies.iterdir()) == [
        "step_000002_update_0.json",
        "step_000002_update_0.safetensors",
    ]
    words = json.loads((run.anomalies / "step_000002_update_0.json").read_text())
    assert (words["step"], words["mini_batch"], words["grad_norm"]) == (2, 0, "nan")
    tensors = load_file(run.anomalies / "step_000002_update_0.safetensors")
    assert len(tensors["pack_0/loss_mask"]) == len(words["rollouts"]) == 8
    assert len(tensors["pack_0/tokens"]) == len(tensors["pack_0/before"]) == int(tensors["pack_0/loss_mask"].sum())
    assert tensors["pack_0/log_ratio"].shape == tensors["pack_0/loss_mask"].shape
    for checkpoint in run.all_checkpoints():
        assert all(bool(t.isfinite().all()) for t in load_file(checkpoint / "model.safetensors").values())


def test_a_skipped_update_leaves_the_weights_as_if_it_had_not_been(folder: Path, poisoned_backward: set[int]) -> None:
    poisoned_backward.update({2, 3})  # both updates of step 2
    run = run_recipe(folder, "run", checkpoint__every="1", checkpoint__keep="9", run__steps="2")
    before, after = (load_file(path / "model.safetensors") for path in run.all_checkpoints())
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_more_skipped_updates_than_the_budget_end_the_run_without_a_checkpoint(
    folder: Path, poisoned_backward: set[int]
) -> None:
    poisoned_backward.update(range(4, 8))  # steps 3 and 4
    with pytest.raises(RunStopped, match=r"step 4: 4 updates .* more than update\.max_skipped = 3; .*anomalies"):
        run_recipe(folder, "run")
    run = RunDirectory(folder / "runs" / "run")
    assert [path.name for path in run.all_checkpoints()] == ["step_000002"]
    assert [line["step"] for line in run.read_metrics()] == [0, 1, 2, 3, 4]


def exhausted_on_cuda(*_, **__):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total of 79 GiB.")


def exhausted_on_the_cpu(*_, **__):
    torch.empty(2**60)


@pytest.mark.parametrize("exhausted", [exhausted_on_cuda, exhausted_on_the_cpu])
def test_memory_that_runs_out_ends_the_run_with_one_line_that_says_what_needs_less(
    folder: Path, monkeypatch: pytest.MonkeyPatch, exhausted: Callable[..., None]
) -> None:
    monkeypatch.setattr(loop, "train_step", exhausted)
    expected = r"(CUDA|CPU) out of memory.*; smaller rollout\.decode_batch and .*begins again"
    with pytest.raises(RunStopped, match=expected):
        run_recipe(folder, "run")


def test_weights_that_are_broken_are_noticed_when_the_sampler_is_tried(folder: Path) -> None:
    weights = load_file(folder / "model" / "model.safetensors")
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, folder / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"cannot be sampled .* must be finite, got NaN or inf: its weights are"):
        run_recipe(folder, "run")


def test_a_run_with_a_damaged_checkpoint_goes_back_to_the_last_good_one_and_ends_the_same(
    whole: RunDirectory, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_recipe(folder, "damaged")
    run = RunDirectory(folder / "runs" / "damaged")
    (run.checkpoints / "step_000004" / "model.safetensors").write_bytes(b"not a model")
    resumed = run_recipe(folder, "damaged", resume=True)
    said = capsys.readouterr().out
    assert "step_000004: model.safetensors is damaged" in said
    assert "continuing after step 2" in said
    shutil.rmtree(run.checkpoints / "damaged_step_000004")
    assert digests(resumed) == digests(whole)


def test_a_run_that_was_killed_before_it_removed_old_checkpoints_does_so_when_it_is_resumed(folder: Path) -> None:
    run = run_recipe(folder, "run", checkpoint__every="1", checkpoint__keep="9")
    assert len(run.all_checkpoints()) == 4
    before = digests(run_recipe(folder, "whole", checkpoint__every="1", checkpoint__keep="2"))
    assert digests(run_recipe(folder, "run", resume=True, checkpoint__every="1", checkpoint__keep="2")) == before


def test_a_second_process_on_a_run_is_refused_and_the_first_is_not_disturbed(
    whole: RunDirectory, halfway: Path
) -> None:
    with (
        run_lock(halfway / "runs" / "run"),
        pytest.raises(UserError, match=f"in use by the process with pid {os.getpid()}"),
    ):
        run_recipe(halfway, "run", resume=True)
    assert digests(run_recipe(halfway, "run", resume=True)) == digests(whole)


def test_other_problems_than_the_run_began_with_are_refused(halfway: Path) -> None:
    data = (halfway / "train.jsonl").read_text().replace('"1"', '"2"')
    (halfway / "train.jsonl").write_text(data)
    with pytest.raises(UserError, match=r"those of data\.train have changed"):
        run_recipe(halfway, "run", resume=True)


def test_an_emptied_configuration_is_named_and_nothing_is_overwritten(halfway: Path) -> None:
    run = RunDirectory(halfway / "runs" / "run")
    run.config.write_bytes(b"")
    with pytest.raises(UserError, match=r"config\.toml: damaged: it lacks tables"):
        run_recipe(halfway, "run", resume=True)
    assert len(run.read_metrics()) == 3


def test_what_is_left_of_a_run_without_its_config_is_not_overwritten(halfway: Path) -> None:
    run = RunDirectory(halfway / "runs" / "run")
    run.config.unlink()
    for resume in (False, True):
        with pytest.raises(UserError, match=r"what is left of a run is there, without its config\.toml"):
            run_recipe(halfway, "run", resume=resume)


def test_rollouts_that_cannot_be_written_stop_the_run_or_not_as_the_recipe_says(
    halfway: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDirectory(halfway / "runs" / "run")
    shutil.rmtree(run.rollouts)
    run.rollouts.write_text("a file in place of the folder")
    resumed = run_recipe(halfway, "run", resume=True, telemetry__on_lost_rollouts="continue")
    assert "step_000003.jsonl: cannot be written: Not a directory" in capsys.readouterr().out
    assert [line["step"] for line in resumed.read_metrics()] == [0, 1, 2, 3, 4]
    with pytest.raises(RunStopped, match=r"step_000005\.jsonl: cannot be written: .* continue from step_000004 with"):
        run_recipe(halfway, "run", resume=True, run__steps="6", telemetry__on_lost_rollouts="stop")


def test_a_full_disk_stops_the_run_with_the_file_the_size_and_where_it_can_go_on(
    whole: RunDirectory, halfway: Path
) -> None:
    run = RunDirectory(halfway / "runs" / "run")
    with largest_file(20_000), pytest.raises(RunStopped) as error:
        run_recipe(halfway, "run", resume=True)
    assert str(error.value).startswith(f"{run.checkpoints / 'step_000004'}: cannot be written: File too large (needed ")
    assert str(error.value).endswith("the run can continue from step_000002 with --resume")
    assert find_damage(run.checkpoints / "step_000002") is None
    assert digests(run_recipe(halfway, "run", resume=True)) == digests(whole)


def interrupt_after(monkeypatch: pytest.MonkeyPatch, beats: int) -> None:
    """Ctrl-C at the given sign of life of the sampler, counted over the run."""
    counted = iter(range(10**9))
    make_sampler = setup.make_sampler

    def with_interrupt(*arguments, beat, **settings):
        tried = False

        def counting(*count: int) -> None:
            if tried and next(counted) == beats:
                os.kill(os.getpid(), signal.SIGINT)
            beat(*count)

        sampler = make_sampler(*arguments, beat=counting, **settings)
        tried = True
        return sampler

    monkeypatch.setattr(setup, "make_sampler", with_interrupt)


@pytest.mark.parametrize("beats", [3, 40, 100, 160])
def test_ctrl_c_while_sampling_drops_the_step_saves_and_the_resumed_run_is_the_same(
    whole: RunDirectory, folder: Path, monkeypatch: pytest.MonkeyPatch, beats: int
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, beats)
        with pytest.raises(RunStopped, match=r"interrupted after step \d; add --resume to continue") as stopped:
            run_recipe(folder, "parts")
    assert stopped.value.exit_code == 130
    resumed = run_recipe(folder, "parts", resume=True, checkpoint__keep="9")
    again = digests(resumed)
    assert {name: digest for name, digest in again.items() if name in digests(whole)} == digests(whole)


GRADERS = """
import os, time
from fipo.grading.answers.number import grade_number
def number_or_crash(response, problem):
    if response.endswith("3"):
        raise RuntimeError("three")
    return grade_number(response, problem)
"""


@pytest.fixture
def crashing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A user's grader that crashes on every response that ends in 3."""
    (folder / "my_graders.py").write_text(GRADERS)
    monkeypatch.chdir(folder)
    return {"data__grader": "my_graders:number_or_crash"}


def test_a_failed_grade_is_said_with_its_reason_is_a_metric_and_has_a_reward_between_right_and_wrong(
    folder: Path, crashing: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_recipe(folder, "run", **crashing, telemetry__rollout_groups="99")
    assert sum(line["grade/crash"] for line in run.read_metrics()[1:]) > 0
    assert re.search(
        r"step \d: \d+ grades failed, the first on problem digits/\w+: crash \(RuntimeError: three\)",
        capsys.readouterr().out,
    )
    rollouts = [rollout for step in range(1, 5) for rollout in run.read_rollouts(step)]
    assert {(r["outcome"], r["reward"]) for r in rollouts} >= {("crash", 0.0), ("correct", 1.0), ("wrong", -1.0)}
    assert all((r["outcome"] == "crash") == r["response"].endswith("3") for r in rollouts)


def test_a_group_with_a_failed_grade_can_be_left_out(folder: Path, crashing: dict[str, str]) -> None:
    run = run_recipe(folder, "run", **crashing, grading__on_failure="drop_group", telemetry__rollout_groups="99")
    rollouts = [rollout for step in range(1, 5) for rollout in run.read_rollouts(step)]
    assert rollouts and all(r["outcome"] != "crash" for r in rollouts)


def test_more_failed_grades_than_the_budget_end_the_run_with_its_state_saved(
    folder: Path, crashing: dict[str, str]
) -> None:
    with pytest.raises(
        RunStopped, match=r"step 1: \d+ grades timed out or crashed, more than grading\.max_failures = 0"
    ):
        run_recipe(folder, "run", **crashing, grading__max_failures="0")
    assert [path.name for path in RunDirectory(folder / "runs" / "run").all_checkpoints()] == ["step_000001"]
    assert (
        run_recipe(folder, "run", **crashing, resume=True, grading__max_failures="999").read_metrics()[-1]["step"] == 4
    )


def test_failed_grades_of_an_evaluation_are_said_and_count_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "failing.py").write_text(
        "def grade(response, problem):\n"
        "    if int(problem.answer) % 2:\n        raise TypeError('odd')\n"
        "    raise ValueError('\\ud800 no')\n"
    )
    monkeypatch.chdir(folder)
    with pytest.raises(
        RunStopped, match=r"step 0: 24 grades timed out or crashed, more than grading\.max_failures = 0"
    ):
        run_recipe(folder, "run", data__grader="failing:grade", grading__max_failures="0")
    assert "step 0: 24 grades failed, the first on problem digits/" in capsys.readouterr().out


def test_a_grader_that_cannot_be_had_is_refused_before_any_work(folder: Path) -> None:
    with pytest.raises(UserError, match="no_such_module"):
        run_recipe(folder, "run", data__grader="no_such_module:grade")
    assert not (folder / "runs" / "run").exists()
