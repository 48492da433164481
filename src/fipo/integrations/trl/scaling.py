"""What float16 asks of the update: a loss of about 1 before it is scaled, and a way past the scaler."""

import math
from typing import Any

import torch
from torch import nn
from trl import GRPOTrainer


def check_scaling(trainer: GRPOTrainer) -> None:
    """Raises ValueError, one line, where fp16's loss scaling meets weights that are not float32."""
    others = {parameter.dtype for parameter in trainer.model.parameters() if parameter.requires_grad} - {torch.float32}
    if trainer.args.fp16 and others:
        found = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in others))
        raise ValueError(
            f'fp16 must have float32 weights to train, which it rounds as it computes: model_init_kwargs={{"dtype": '
            f'"float32"}}, got {found}'
        )


def loss_divisor(trainer: GRPOTrainer) -> float:
    """By what un-normalised losses are divided before accelerate scales them: 1 without a scaler.

    Else a power of two, which rounds nothing, near the most tokens that a mini-batch can have, so that the scale begins
    where it would for a mean loss. The gradient is multiplied by it again.
    """
    if trainer.accelerator.scaler is None:
        return 1.0
    args = trainer.args
    rows = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    return 2.0 ** math.ceil(math.log2(rows * args.max_completion_length))


def leave_out(model: nn.Module, scaler: Any) -> None:
    """Make the optimizer step that comes leave weights and moments alone.

    Without a scaler by taking the gradients away. A scaler wants some, and skips those that are not finite; its scale
    is halved for it, also where the mini-batch merely had no token to train on.
    """
    if scaler is None:
        model.zero_grad()
        return
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad.fill_(math.nan)
