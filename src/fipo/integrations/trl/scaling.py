"""What float16 asks of the update: a loss of about 1 before it is scaled, and a way past the scaler."""

import math
from typing import Any

from torch import nn
from trl import GRPOTrainer


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
