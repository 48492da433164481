import dataclasses
from pathlib import Path

import pytest
import torch
from tests.conftest import random_model
from tests.faults.small_run import digests
from tests.training.helpers import run_recipe, trainer_of
from tests.training.test_update import GROUPS, mini_batches_of
from transformers import PreTrainedModel

from fipo.objective import ALGORITHMS
from fipo.telemetry.run_directory import RunDirectory
from fipo.training.policy.loss_scale import FIRST, INTERVAL, SMALLEST, LossScale
from fipo.training.policy.optimizer import MasterAdamW
from fipo.training.update import UpdateOutcome, update

FLOAT16 = {"model__dtype": "float16", "checkpoint__every": "1", "eval__every": "1"}


def updated(model: PreTrainedModel, scale: LossScale | None, *, advantage: float = 1.0) -> UpdateOutcome:
    """One update on all groups, whose gradients stay in the masters."""
    [batch] = mini_batches_of(model, groups=GROUPS)
    packs = [dataclasses.replace(one, advantages=one.advantages * advantage) for one in batch.packs]
    optimizer = MasterAdamW(model, lr=1e-3, weight_decay=0.0)
    trainer = dataclasses.replace(trainer_of(model, ALGORITHMS["dapo"], optimizer), loss_scale=scale)
    outcome = update(trainer, packs, None, None)
    model.masters = optimizer.masters
    return outcome


def gradient(model: PreTrainedModel) -> torch.Tensor:
    return torch.cat([master.grad.flatten() for master in model.masters.values() if master.grad is not None])


def float16_and_float32() -> tuple[PreTrainedModel, PreTrainedModel]:
    half = random_model(scale=2.0).half()
    wide = random_model(scale=2.0)
    wide.load_state_dict(half.state_dict())
    return half, wide


def test_gradients_are_those_of_float32_whatever_their_size() -> None:
    for advantage in (1.0, 1e-6):
        half, wide = float16_and_float32()
        assert not updated(half, LossScale(), advantage=advantage).skipped
        updated(wide, None, advantage=advantage)
        error = (gradient(half) - gradient(wide)).norm() / gradient(wide).norm()
        assert float(error) < 5e-3


def test_without_a_scale_small_gradients_are_lost() -> None:
    half, wide = float16_and_float32()
    updated(half, None, advantage=1e-6)
    updated(wide, None, advantage=1e-6)
    assert float((gradient(half) - gradient(wide)).norm() / gradient(wide).norm()) > 0.05


def test_an_overflow_leaves_the_weights_alone_and_halves_the_scale() -> None:
    half, _ = float16_and_float32()
    before = [parameter.detach().clone() for parameter in half.parameters()]
    scale = LossScale(2.0**40, clean=7)
    outcome = updated(half, scale)
    assert outcome.skipped and outcome.overflowed
    assert (scale.value, scale.clean) == (2.0**39, 0)
    assert all(torch.equal(a, b) for a, b in zip(before, half.parameters(), strict=True))


def test_what_no_scale_can_mend_is_not_called_an_overflow() -> None:
    half, _ = float16_and_float32()
    scale = LossScale(SMALLEST)
    outcome = updated(half, scale, advantage=1e30)
    assert outcome.skipped and not outcome.overflowed
    lost, _ = float16_and_float32()
    scale = LossScale()
    outcome = updated(lost, scale, advantage=float("nan"))
    assert outcome.skipped and not outcome.overflowed
    assert scale.value == FIRST


def test_the_scale_doubles_after_so_many_finite_updates_and_the_count_begins_again_after_an_overflow() -> None:
    scale = LossScale()
    for _ in range(INTERVAL - 1):
        scale.note(finite=True)
    assert scale.value == FIRST
    assert scale.note(finite=False)
    for _ in range(INTERVAL):
        scale.note(finite=True)
    assert (scale.value, scale.clean) == (FIRST, 0)


@pytest.mark.parametrize("weight", [0, 1, 3, 1000, 2**17])
def test_the_multiplier_is_a_power_of_two_so_that_it_rounds_nothing(weight: int) -> None:
    mantissa, _ = torch.frexp(torch.tensor(LossScale().multiplier(weight), dtype=torch.float64))
    assert float(mantissa) == 0.5
    assert FIRST / 2 < LossScale().multiplier(weight) * max(1, weight) <= FIRST


def test_a_run_in_float16_that_is_resumed_equals_the_uninterrupted_one_bit_for_bit(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fipo.training.policy.loss_scale.INTERVAL", 3)
    whole = run_recipe(folder, "whole", run__steps="2", **FLOAT16)
    for steps in ("1", "2"):
        parts = run_recipe(folder, "parts", resume=steps != "1", run__steps=steps, **FLOAT16)
    assert digests(parts) == digests(whole)
    scales = [line["update/loss_scale"] for line in whole.read_metrics()[1:]]
    assert len(set(scales)) > 1  # so the count was taken along, too


def test_a_search_for_the_scale_does_not_use_up_what_may_be_skipped(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LossScale.__init__, "__defaults__", (2.0**40, 0))
    run: RunDirectory = run_recipe(folder, "run", run__steps="3", update__max_skipped="0", **FLOAT16)
    lines = run.read_metrics()[1:]
    assert sum(line["update/overflowed"] for line in lines) > 3
    assert all(line["update/skipped"] == 0 for line in lines)
    assert not run.anomalies.exists()
