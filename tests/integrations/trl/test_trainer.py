"""FIPOTrainer does what our own trainer does with the same tokens and advantages."""

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl", reason="TRL is not installed here; make test-trl has an environment with it")

from tests.conftest import random_model
from tests.integrations.trl.helpers import logged, make_trainer, our_update, random_rollouts
from transformers import PreTrainedModel

from fipo.objective import Max, Mean, metric_values

NARROW = {
    "clip_low": 0.05,
    "clip_high": 0.05,
    "dual_clip": 1.05,
    "influence_clip": [0.5, 2.0],
    "safety_threshold": 1.01,
}
HOST = {"step_time", "epoch", "num_tokens"}
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def assert_equal_weights(trained: PreTrainedModel, expected: PreTrainedModel) -> None:
    """To the rounding of float32, in which transformers computes positions and norms even of a float64 model."""
    start = random_model(scale=4.0).double()
    for name, parameter in trained.named_parameters():
        moved, wanted = (each - start.get_parameter(name) for each in (parameter, expected.get_parameter(name)))
        torch.testing.assert_close(moved, wanted, rtol=1e-5, atol=1e-8)
    assert any(not torch.equal(p, start.get_parameter(name)) for name, p in trained.named_parameters())


@pytest.mark.parametrize("preset", ["release_32b", "release_7b", "paper_7b", "dapo", "grpo", "dr_grpo"])
def test_a_step_moves_the_weights_as_our_own_trainer_does(tmp_path: Path, preset: str) -> None:
    trainer = make_trainer(
        tmp_path, random_rollouts(4, 4), preset=preset, mini_batches=2, gradient_accumulation_steps=2, max_steps=2
    )
    trainer.train()

    ours = random_model(scale=4.0).double()
    outcomes = our_update(ours, trainer)

    assert_equal_weights(trainer.model, ours)
    logs = logged(trainer)
    assert [entry["grad_norm"] for entry in logs] == pytest.approx([o.grad_norm for o in outcomes], rel=1e-6)


@pytest.mark.parametrize("micro_batch", [2, 4, 8])
def test_the_sequence_filter_leaves_the_denominator_of_the_whole_mini_batch(tmp_path: Path, micro_batch: int) -> None:
    trainer = make_trainer(
        tmp_path,
        random_rollouts(4, 4),
        mini_batches=2,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=8 // micro_batch,
        max_dual_clipped_tokens=0,
        max_steps=2,
        **NARROW,
    )
    trainer.train()

    ours = random_model(scale=4.0).double()
    our_update(ours, trainer)

    assert 0 < logged(trainer)[1]["policy/filtered_sequences"] < 8
    assert_equal_weights(trainer.model, ours)


def test_the_first_mini_batch_has_ratio_1_and_weight_1_exactly_and_later_ones_do_not(tmp_path: Path) -> None:
    model = random_model(scale=4.0)  # float32
    trainer = make_trainer(
        tmp_path, random_rollouts(4, 4), model=model, mini_batches=4, max_steps=4, preset="release_7b"
    )
    trainer.train()

    first, *later = logged(trainer)
    for key in ("policy/ratio_pos/min", "policy/ratio_pos/max", "policy/ratio_neg/max"):
        assert first[key] == 1
    assert first["fipo/mini_batch_0/influence_weight/std"] == 0
    assert all(entry[f"fipo/mini_batch_{i}/influence_weight/std"] > 0 for i, entry in enumerate(later, 1))


def test_without_a_change_of_weights_every_ratio_is_1_exactly(tmp_path: Path) -> None:
    model = random_model(scale=4.0)
    trainer = make_trainer(
        tmp_path, random_rollouts(4, 4), model=model, mini_batches=4, max_steps=8, num_iterations=2, learning_rate=0.0
    )
    trainer.train()
    for entry in logged(trainer):
        assert entry["policy/ratio_pos/min"] == entry["policy/ratio_pos/max"] == entry["policy/ratio_neg/max"] == 1


def test_a_second_iteration_over_one_mini_batch_is_off_policy(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path, random_rollouts(2, 4), mini_batches=1, gradient_accumulation_steps=2, num_iterations=2, max_steps=4
    )
    trainer.train()
    logs = logged(trainer)
    assert [entry["policy/kl"] != 0 for entry in logs] == [False, True, False, True]
    assert [entry["policy/kl"] == 0 for entry in logs if "fipo/mini_batch_0/influence_weight/mean" in entry] == [
        True
    ] * 2


def test_metrics_are_reduced_over_tokens_and_logging_steps_by_what_they_are(tmp_path: Path) -> None:
    trainers = []
    for logging_steps in (1, 2):
        trainer = make_trainer(
            tmp_path / str(logging_steps),
            random_rollouts(4, 4),
            mini_batches=2,
            gradient_accumulation_steps=2,
            max_steps=2,
            logging_steps=logging_steps,
            **NARROW,
        )
        trainer.train()
        trainers.append(trainer)
    often, seldom = trainers

    steps = logged(often)
    outcomes = our_update(random_model(scale=4.0).double(), often)
    for entry, outcome in zip(steps, outcomes, strict=True):
        parts = [part.output.metrics() for part in outcome.packs]
        largest = sum((part["fipo/influence_weight/max"] for part in parts[1:]), parts[0]["fipo/influence_weight/max"])
        mean = sum((part["policy/kl"] for part in parts[1:]), parts[0]["policy/kl"])
        loss = sum((part["policy/loss"] for part in parts[1:]), parts[0]["policy/loss"])
        assert isinstance(largest, Max) and isinstance(mean, Mean)
        assert entry["fipo/influence_weight/max"] == pytest.approx(largest.value, rel=1e-6)
        assert entry["policy/kl"] == pytest.approx(mean.value, rel=1e-5, abs=1e-12)
        assert entry["loss"] == pytest.approx(loss.value, rel=1e-5) == entry["policy/loss"]
    (both,) = logged(seldom)
    key = "fipo/influence_weight/max"
    assert both[key] == max(entry[key] for entry in steps) > 1
    assert set(metric_values(outcomes[0].packs[0].output.metrics())) < set(both)


def test_truncated_responses_are_masked_out_of_loss_and_denominator(tmp_path: Path) -> None:
    rollouts = random_rollouts(4, 4)
    for responses in rollouts.values():
        responses[0] = [*responses[0][:-1], 7]  # no stop token
    trainer = make_trainer(
        tmp_path, rollouts, mini_batches=2, gradient_accumulation_steps=2, max_steps=2, mask_truncated_completions=True
    )
    trainer.train()

    ours = random_model(scale=4.0).double()
    our_update(ours, trainer)
    assert_equal_weights(trainer.model, ours)


def test_a_loss_that_is_not_finite_skips_its_update(tmp_path: Path) -> None:
    model = random_model(scale=4.0).double()
    with torch.no_grad():
        model.get_input_embeddings().weight[:] = torch.nan
    before = {name: each.clone() for name, each in model.named_parameters()}
    trainer = make_trainer(tmp_path, random_rollouts(4, 4), model=model, mini_batches=2, max_steps=2)
    trainer.train()
    assert [entry["update/skipped"] for entry in logged(trainer)] == [1, 1]
    for name, parameter in trainer.model.named_parameters():
        assert torch.equal(parameter.nan_to_num(), before[name].nan_to_num())


def test_a_gradient_that_is_not_finite_skips_its_update_though_the_loss_is_finite(tmp_path: Path) -> None:
    model = random_model(scale=4.0).double()
    model.model.norm.weight.register_hook(lambda gradient: gradient * torch.inf)
    before = {name: each.clone() for name, each in model.named_parameters()}
    trainer = make_trainer(tmp_path, random_rollouts(4, 4), model=model, mini_batches=2, max_steps=2)
    trainer.train()
    assert [entry["update/skipped"] for entry in logged(trainer)] == [1, 1]
    assert all(torch.isfinite(torch.tensor(entry["loss"])) for entry in logged(trainer))
    assert all(torch.equal(parameter, before[name]) for name, parameter in trainer.model.named_parameters())


def test_an_evaluation_between_two_mini_batches_changes_nothing(tmp_path: Path) -> None:
    rollouts = random_rollouts(4, 4)
    alone = make_trainer(tmp_path / "1", rollouts, mini_batches=4, max_steps=4)
    alone.train()
    evaluated = make_trainer(
        tmp_path / "2",
        rollouts,
        mini_batches=4,
        max_steps=4,
        eval_strategy="steps",
        eval_steps=1,
        num_generations_eval=2,
    )
    evaluated.train()
    assert len([entry for entry in evaluated.state.log_history if "eval_reward" in entry]) == 4
    assert all(torch.equal(p, alone.model.get_parameter(name)) for name, p in evaluated.model.named_parameters())
    for before, after in zip(logged(alone), logged(evaluated), strict=True):
        assert {k: v for k, v in before.items() if k not in HOST} == {k: v for k, v in after.items() if k not in HOST}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"vllm_importance_sampling_correction": True}, "vllm_importance_sampling_correction must be off without use_"),
        ({"mini_batches": 4}, "train_dataset must have at least 4 rows, a generation batch, got 2"),
    ],
)
def test_what_the_update_cannot_work_with_is_refused_in_one_line(
    tmp_path: Path, options: dict[str, Any], line: str
) -> None:
    rollouts = random_rollouts(2, 4)
    with pytest.raises(ValueError, match=line) as refused:
        make_trainer(tmp_path, rollouts, sampler=False, **{"mini_batches": 2, **options})
    assert "\n" not in str(refused.value)


def test_another_config_is_refused(tmp_path: Path) -> None:
    from trl import GRPOConfig

    from fipo.integrations.trl import FIPOTrainer

    with pytest.raises(TypeError, match="args must be a FIPOTrainingConfig, got GRPOConfig"):
        FIPOTrainer("model", lambda **_: [], GRPOConfig(str(tmp_path), use_cpu=True, bf16=False))
