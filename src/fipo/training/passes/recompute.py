"""Gradient checkpointing: a layer's activations are made again in the backward pass instead of being kept."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from fipo.errors import UserError


def check_recomputing(model: PreTrainedModel) -> None:
    """Raise UserError if a model cannot do without its activations."""
    if not model.supports_gradient_checkpointing:
        raise UserError(f"update.gradient_checkpointing: {type(model).__name__} must support it, and does not")
    config = model.config.get_text_config().to_dict()
    dropout = {key: value for key, value in config.items() if ("dropout" in key or "pdrop" in key) and value}
    if dropout:  # a layer recomputes only in training mode, where it may drop out as well
        raise UserError(f"update.gradient_checkpointing: the model's dropout must be 0, got {dropout}")


@contextmanager
def recomputing(model: PreTrainedModel, on: bool) -> Iterator[None]:
    """Inside, the layers of a model recompute. Not outside, where they would go without their key-value cache."""
    layers: list[Any] = [m for m in model.modules() if on and isinstance(m, GradientCheckpointingLayer)]
    for layer in layers:
        layer.training = True  # of the layer alone: what it holds stays in evaluation mode
        layer.gradient_checkpointing = True
        layer._gradient_checkpointing_func = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
    try:
        yield
    finally:
        for layer in layers:
            layer.training = layer.gradient_checkpointing = False
