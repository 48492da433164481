"""What TRL's losses make of the surrogates' vectors, beside ours: the figures of docs/objective.md."""

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

trl = pytest.importorskip("trl", reason="TRL is not installed here; make test-trl has an environment with it")

VECTORS = Path(__file__).parents[2] / "objective" / "vectors" / "surrogates"


def trls(arrays: dict[str, np.ndarray], loss_type: str, level: str, low: float, high: float) -> tuple[float, Tensor]:
    """(loss, gradient) of TRL's `_compute_loss` on a vector."""
    logprobs, mask = torch.tensor(arrays["logprobs"], requires_grad=True), torch.tensor(arrays["loss_mask"]).long()
    trainer: Any = mock.MagicMock()
    trainer._get_per_token_logps_and_entropies.return_value = (logprobs, torch.zeros_like(logprobs), None)
    trainer.configure_mock(
        loss_type=loss_type, importance_sampling_level=level, epsilon_low=low, epsilon_high=high, beta=0.0,
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, use_vllm=False, _entropy_bonus_enabled=False,
        vllm_importance_sampling_correction=False, current_gradient_accumulation_steps=1, aux_loss_enabled=False,
    )  # fmt: skip
    trainer.args.configure_mock(delta=None, sapo_temperature_pos=1.0, sapo_temperature_neg=1.05, steps_per_generation=1)
    trainer.accelerator.num_processes = 1
    trainer.accelerator.reduce.side_effect = lambda x, **_: x
    trainer.accelerator.gather.side_effect = lambda x: x
    tokens = torch.zeros(logprobs.shape, dtype=torch.long)
    inputs = {
        "prompt_ids": tokens[:, :1],
        "prompt_mask": tokens[:, :1] + 1,
        "completion_ids": tokens,
        "completion_mask": mask,
        "advantages": torch.tensor(arrays["advantages"][:, 0]),
        "old_per_token_logps": torch.tensor(arrays["old_logprobs"]),
        "num_items_in_batch": mask.sum(),
    }
    loss = trl.GRPOTrainer._compute_loss(trainer, None, inputs)
    return loss.item(), torch.autograd.grad(loss, logprobs)[0]


@pytest.mark.parametrize(
    ("vector", "options", "loss", "difference"),
    [
        ("gspo", ("grpo", "sequence", 3e-4, 4e-4), None, 1e-8),
        ("gspo_wide", ("grpo", "sequence", 0.05, 0.08), None, 1e-8),
        ("gspo_wide", ("dapo", "sequence", 0.05, 0.08), -0.493, 0.11),
        ("sapo", ("sapo", "token", 0.2, 0.28), None, 1e-8),
        ("cispo", ("cispo", "token", 0.2, 0.28), 0.173, 0.76),
        ("cispo", ("cispo", "token", 0.2, 1.28), None, 1e-15),
        ("cispo_two_sided", ("cispo", "token", 0.2, 1.28), 0.269, 0.14),
    ],
)
def test_trl_differs_by_as_much_as_the_page_says(
    vector: str, options: tuple[str, str, float, float], loss: float | None, difference: float
) -> None:
    """No loss given: the vector's own, which ours is too."""
    with np.load(VECTORS / f"{vector}.npz") as file:
        arrays = {name: file[name] for name in file.files}
    found, gradient = trls(arrays, *options)
    expected = torch.tensor(arrays["grad"])
    off = float((gradient - expected).abs().max() / expected.abs().max())
    if loss is None:
        assert found == pytest.approx(float(arrays["loss"]), rel=1e-7)  # its temperatures are float32
        assert off <= difference
    else:
        assert found == pytest.approx(loss, abs=5e-4)
        assert off == pytest.approx(difference, abs=5e-3)
