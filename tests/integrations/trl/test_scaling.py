"""accelerate has float16 on GPUs alone; here its autocast and torch's scaler work on a CPU."""

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl", reason="TRL is not installed here; make test-trl has an environment with it")

from tests.conftest import random_model
from tests.integrations.trl.helpers import make_trainer, random_rollouts
from torch import Tensor

from fipo.integrations.trl import FIPOTrainer
from fipo.integrations.trl.scaling import check_scaling, leave_out, loss_divisor


def made(folder: Path, **options: Any) -> FIPOTrainer:
    return make_trainer(
        folder, random_rollouts(4, 4), model=random_model(scale=4.0), **{"mini_batches": 2, "max_steps": 2, **options}
    )


def in_float16(trainer: FIPOTrainer, monkeypatch: pytest.MonkeyPatch) -> FIPOTrainer:
    """As `fp16=True` would make it on a GPU."""
    accelerator = trainer.accelerator
    accelerator.scaler = torch.amp.GradScaler("cpu")
    accelerator.native_amp = True
    monkeypatch.setitem(accelerator.state._shared_state, "_mixed_precision", "fp16")
    trainer._loss_divisor = loss_divisor(trainer)
    return trainer


def moved(trainer: FIPOTrainer) -> Tensor:
    start = dict(random_model(scale=4.0).named_parameters())
    return torch.cat([(p - start[name]).detach().flatten() for name, p in trainer.model.named_parameters()])


def skipped(trainer: FIPOTrainer) -> list[float]:
    return [line["update/skipped"] for line in trainer.state.log_history if "update/skipped" in line]


def test_scaled_losses_in_float16_move_the_weights_as_float32_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = made(tmp_path / "plain")
    plain.train()
    half = in_float16(made(tmp_path / "half"), monkeypatch)  # made afterwards: that sets the seed of the order of rows
    half.train()
    assert plain._loss_divisor == 1.0
    assert half._loss_divisor > 1.0
    assert skipped(half) == [0.0, 0.0]  # at accelerate's first scale, though the losses are sums
    assert float((moved(half) - moved(plain)).norm() / moved(plain).norm()) < 0.02


def test_an_overflow_skips_the_update_and_halves_the_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = in_float16(made(tmp_path), monkeypatch)
    trainer.model.get_input_embeddings().weight.register_hook(lambda gradient: gradient * torch.inf)
    trainer.train()
    assert skipped(trainer) == [1.0, 1.0]
    assert trainer.accelerator.scaler.get_scale() == 2.0**14
    assert not bool(moved(trainer).any())


def test_what_is_left_out_moves_neither_weights_nor_moments() -> None:
    layer = torch.nn.Linear(3, 2)
    before = layer.weight.detach().clone()
    optimizer, scaler = torch.optim.AdamW(layer.parameters(), lr=0.1), torch.amp.GradScaler("cpu")
    scaler.scale(0.0 * layer(torch.ones(1, 3)).sum()).backward()
    leave_out(layer, scaler)
    scaler.step(optimizer)
    assert torch.equal(layer.weight, before)
    assert not optimizer.state


def test_old_log_probs_are_those_of_the_update_in_float16_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = in_float16(made(tmp_path, learning_rate=0.0), monkeypatch)
    trainer.train()
    key = "fipo/mini_batch_1/influence_weight/std"
    assert [line[key] for line in trainer.state.log_history if key in line] == [0.0]  # of weights that did not move


def test_weights_of_another_precision_are_refused(tmp_path: Path) -> None:
    trainer = made(tmp_path)
    trainer.args.fp16 = True
    check_scaling(trainer)
    trainer.model.get_output_embeddings().to(torch.bfloat16)
    with pytest.raises(
        ValueError, match=r"fp16 must have float32 weights to train, .*float32.*, got bfloat16"
    ) as refused:
        check_scaling(trainer)
    assert "\n" not in str(refused.value)


def test_the_scale_is_that_of_the_checkpoint_after_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = in_float16(made(tmp_path, save_strategy="steps", save_steps=2), monkeypatch)
    first.model.get_input_embeddings().weight.register_hook(lambda gradient: gradient * torch.inf)
    first.train()
    second = in_float16(made(tmp_path, max_steps=4), monkeypatch)
    second.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    assert second.accelerator.scaler.get_scale() == first.accelerator.scaler.get_scale() == 2.0**14
