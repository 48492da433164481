"""float16 needs a GPU in accelerate, so the scaler of one is put into a trainer of float64 on a CPU."""

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl", reason="trl is not installed here; make test-trl has it")

from tests.integrations.trl.helpers import make_trainer, random_rollouts

from fipo.integrations.trl import FIPOTrainer
from fipo.integrations.trl.scaling import loss_divisor


def trained(folder: Path, scale: float | None, monkeypatch: pytest.MonkeyPatch, **options: Any) -> FIPOTrainer:
    trainer = make_trainer(folder, random_rollouts(4, 4), **{"mini_batches": 2, "max_steps": 2, **options})
    if scale is not None:
        accelerator = trainer.accelerator
        accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        accelerator.native_amp = True
        monkeypatch.setattr(type(accelerator), "mixed_precision", "fp16")
        trainer._loss_divisor = loss_divisor(trainer)
    trainer.train()
    return trainer


def test_a_scaled_loss_gives_the_weights_of_one_that_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = trained(tmp_path / "plain", None, monkeypatch)
    with monkeypatch.context() as patch:
        scaled = trained(tmp_path / "scaled", 2.0**16, patch)
    assert plain._loss_divisor == 1.0
    assert scaled._loss_divisor > 1.0
    for name, parameter in plain.model.named_parameters():
        torch.testing.assert_close(scaled.model.get_parameter(name), parameter, rtol=1e-12, atol=1e-12)


def test_an_overflow_skips_the_update_and_halves_the_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    untrained = make_trainer(tmp_path / "untrained", random_rollouts(4, 4), mini_batches=2)
    scaler = torch.finfo(torch.float64).max
    trainer = trained(tmp_path / "run", scaler, monkeypatch, max_grad_norm=1.0)
    assert [line["update/skipped"] for line in trainer.state.log_history if "update/skipped" in line] == [1.0, 1.0]
    assert trainer.accelerator.scaler.get_scale() < scaler
    for name, parameter in untrained.model.named_parameters():
        assert torch.equal(trainer.model.get_parameter(name), parameter)
