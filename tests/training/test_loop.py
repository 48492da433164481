"""Whole runs on a random model (see conftest.py)."""

import gc
import hashlib
from datetime import date
from pathlib import Path

import pytest
from tests.training.helpers import run_recipe
from transformers import AutoModelForCausalLM

from fipo.errors import RunStopped, UserError
from fipo.rollout import prompts
from fipo.rollout.engine.slot_engine import SlotEngine
from fipo.telemetry.run_directory import RunDirectory


def metrics_without_times(run: RunDirectory) -> list[dict[str, float]]:
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in run.read_metrics()]


def weights_hash(run: RunDirectory) -> str:
    return hashlib.sha256((run.all_checkpoints()[-1] / "model.safetensors").read_bytes()).hexdigest()


def test_two_runs_with_one_seed_write_the_same_metrics_rollouts_and_weights(whole: RunDirectory, folder: Path) -> None:
    second = run_recipe(folder, "second")
    assert metrics_without_times(whole) == metrics_without_times(second)
    assert weights_hash(whole) == weights_hash(second)
    assert [whole.read_rollouts(step) for step in range(1, 5)] == [second.read_rollouts(step) for step in range(1, 5)]


def test_what_a_run_held_in_memory_goes_with_it(folder: Path) -> None:
    def engines() -> int:
        return sum(isinstance(one, SlotEngine) for one in gc.get_objects())

    gc.collect()
    before = engines()
    gc.disable()  # a collection may come late: no other object of Python's tells it how much a model holds
    try:
        run_recipe(folder, "run", run__steps="1")
        assert engines() == before
    finally:
        gc.enable()


def test_another_seed_gives_another_run(whole: RunDirectory, folder: Path) -> None:
    assert weights_hash(whole) != weights_hash(run_recipe(folder, "other", run__seed="1"))


def test_a_run_leaves_metrics_of_every_step_with_the_evaluations_that_were_due(folder: Path) -> None:
    metrics = run_recipe(folder, "run", run__steps="3").read_metrics()
    assert [line["step"] for line in metrics] == [0, 1, 2, 3]
    assert [("eval/avg_at_k" in line) for line in metrics] == [True, False, True, True]
    assert {"eval/greedy", "eval/pass_at_k", "eval/ci/avg_at_k/low", "eval/ci/avg_at_k/high"} <= metrics[0].keys()
    assert {
        "reward/mean",
        "response_length/p75",
        "policy/entropy",
        "policy/kl",
        "policy/grad_norm",
        "fipo/influence_weight/mean",
        "time/step",
        "time/mfu",
    } <= metrics[1].keys()


def test_the_first_mini_batch_of_every_step_has_weights_of_exactly_one_and_the_second_has_not(
    whole: RunDirectory,
) -> None:
    for line in whole.read_metrics()[1:]:
        assert line["fipo/mini_batch_0/influence_weight/mean"] == 1
        assert line["fipo/mini_batch_0/influence_weight/std"] == 0
        assert line["fipo/mini_batch_1/influence_weight/std"] > 0


def test_rollouts_carry_the_credit_of_every_token(whole: RunDirectory) -> None:
    records = whole.read_rollouts(3)
    assert len(records) == 16
    for record in records:
        lengths = {len(record[key]) for key in ("tokens", "log_ratio", "future_kl", "influence_weight")}
        assert len(lengths) == 1
        assert record["mini_batch"] in (0, 1)
        assert record["reward"] == (1.0 if record["outcome"] == "correct" else -1.0)
    moved = [record for record in records if record["mini_batch"] == 1]
    assert any(ratio != 0 for record in moved for ratio in record["log_ratio"])


def test_the_recorded_groups_are_spread_over_the_mini_batches_the_last_one_included(folder: Path) -> None:
    run = run_recipe(folder, "run", update__mini_batches="4", telemetry__rollout_groups="2", run__steps="1")
    assert {record["mini_batch"] for record in run.read_rollouts(1)} == {0, 3}
    run = run_recipe(folder, "last", update__mini_batches="4", telemetry__rollout_groups="1", run__steps="1")
    assert {record["mini_batch"] for record in run.read_rollouts(1)} == {3}


def test_a_checkpoint_of_a_run_is_a_model_that_transformers_loads(whole: RunDirectory) -> None:
    assert [path.name for path in whole.all_checkpoints()] == ["step_000002", "step_000004"]
    AutoModelForCausalLM.from_pretrained(whole.all_checkpoints()[-1])


def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(whole: RunDirectory, halfway: Path) -> None:
    parts = RunDirectory(halfway / "runs" / "run")
    parts.append_metrics({"step": 3, "reward/mean": 9.0})  # written after the checkpoint, then killed
    resumed = run_recipe(halfway, "run", resume=True)
    assert metrics_without_times(resumed) == metrics_without_times(whole)
    assert weights_hash(resumed) == weights_hash(whole)


@pytest.mark.parametrize("settings", [{"model__dtype": "bfloat16"}, {"update__gradient_checkpointing": "true"}])
def test_so_does_one_in_bfloat16_and_one_that_recomputes_its_activations(
    folder: Path, settings: dict[str, str]
) -> None:
    whole = run_recipe(folder, "whole", **settings)
    run_recipe(folder, "parts", run__steps="2", **settings)
    resumed = run_recipe(folder, "parts", resume=True, **settings)
    assert metrics_without_times(resumed) == metrics_without_times(whole)
    assert weights_hash(resumed) == weights_hash(whole)
    for line in whole.read_metrics()[1:]:
        assert line["fipo/mini_batch_0/influence_weight/std"] == 0 < line["fipo/mini_batch_1/influence_weight/std"]


def test_recomputed_activations_give_the_same_weights(whole: RunDirectory, folder: Path) -> None:
    assert weights_hash(whole) == weights_hash(run_recipe(folder, "recompute", update__gradient_checkpointing="true"))


def test_a_run_begun_before_a_key_existed_is_resumed_with_its_default(halfway: Path) -> None:
    run = RunDirectory(halfway / "runs" / "run")
    config = run.config.read_text()
    assert 'dtype = "auto"' in config
    run.config.write_text(config.replace('\ndtype = "auto"\n', "\n"))
    assert len(run_recipe(halfway, "run", resume=True).read_metrics()) == 5


def test_resuming_a_finished_run_changes_nothing(halfway: Path) -> None:
    before = RunDirectory(halfway / "runs" / "run").read_metrics()
    assert run_recipe(halfway, "run", resume=True, run__steps="2").read_metrics() == before


def test_a_run_directory_in_use_is_not_overwritten(halfway: Path) -> None:
    with pytest.raises(UserError, match="a run is already there; add --resume"):
        run_recipe(halfway, "run")


def test_resuming_with_another_recipe_is_refused_with_the_key_and_both_values(halfway: Path) -> None:
    with pytest.raises(UserError, match=r"update\.learning_rate was 0\.001, got 0\.5"):
        run_recipe(halfway, "run", resume=True, update__learning_rate="0.5")


DATED = "{{ strftime_now('%d') }}+{% for m in messages %}{{ m['content'] }}{% endfor %}"


def on(day: str) -> type[date]:
    class Today(date):
        @classmethod
        def today(cls) -> date:
            return date.fromisoformat(day)

    return Today


def test_a_run_continued_on_another_day_keeps_the_date_that_its_chat_template_saw(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "model" / "chat_template.jinja").write_text(DATED)
    chat = {"data__prompt_format": '"chat"'}
    monkeypatch.setattr(prompts, "date", on("2026-01-30"))
    whole = run_recipe(folder, "whole", **chat)
    run_recipe(folder, "parts", run__steps="2", **chat)
    monkeypatch.setattr(prompts, "date", on("2026-01-31"))
    parts = run_recipe(folder, "parts", resume=True, **chat)
    assert parts.read_config()["data"]["date"] == "2026-01-30"
    assert metrics_without_times(parts) == metrics_without_times(whole)
    with pytest.raises(UserError, match=r"data\.date was '2026-01-30', got '2026-01-31'"):
        run_recipe(folder, "parts", resume=True, data__date='"2026-01-31"', **chat)


def test_a_run_whose_chat_template_was_changed_is_not_continued(folder: Path) -> None:
    template = folder / "model" / "chat_template.jinja"
    template.write_text(DATED)
    run_recipe(folder, "run", run__steps="1", data__prompt_format='"chat"')
    template.write_text(DATED.replace("+", "-"))
    with pytest.raises(UserError, match="needs the prompts that the run began with"):
        run_recipe(folder, "run", resume=True, data__prompt_format='"chat"')


def test_a_short_batch_trains_or_stops_as_the_recipe_says(folder: Path) -> None:
    short = {"rollout__max_generation_batches": "1", "rollout__generation_batch": "4", "run__steps": "1"}
    line = run_recipe(folder, "train", **short).read_metrics()[1]
    assert line["groups/kept"] < 4
    with pytest.raises(RunStopped, match="must fill within 1 generation batches"):
        run_recipe(folder, "stop", rollout__on_short_batch='"stop"', **short)


def test_problems_that_are_evaluated_are_left_out_of_training_and_counted(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (folder / "eval.jsonl").read_text()
    with (folder / "train.jsonl").open("a") as file:
        file.write(data)
    run_recipe(folder, "run", run__steps="1")
    assert "8 problems are also in data.eval; left out of training" in capsys.readouterr().out


def test_a_context_that_is_too_short_is_refused_before_any_work(folder: Path) -> None:
    with pytest.raises(UserError, match=r"must be <= 256, the positions that .*model has, got 308"):
        run_recipe(folder, "run", rollout__max_response_tokens="300")
    assert not (folder / "runs" / "run" / "config.toml").exists()


@pytest.mark.parametrize("preset", ["dapo", "grpo", "dr_grpo", "paper_32b"])
def test_every_baseline_is_one_word(folder: Path, preset: str) -> None:
    line = run_recipe(folder, preset, run__steps="1", objective__preset=preset).read_metrics()[1]
    assert line["policy/grad_norm"] > 0


def test_a_run_that_stops_in_its_first_step_has_one_evaluation_of_the_base_after_it_is_resumed(folder: Path) -> None:
    short = {"rollout__max_generation_batches": "1", "rollout__generation_batch": "4", "run__steps": "1"}
    for resume in (False, True):
        with pytest.raises(RunStopped, match="the state after step 0 is saved"):
            run_recipe(folder, "stop", resume=resume, rollout__on_short_batch='"stop"', **short)
    assert [line["step"] for line in RunDirectory(folder / "runs" / "stop").read_metrics()] == [0]
