"""Rotary embeddings that depend on the longest sequence of a batch, as they were fixed for a whole run."""

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

FIXED = "fixed"  # a kind that transformers knows nothing of and so never updates


def fix_rotary(model: PreTrainedModel, longest: int) -> bool:
    """Fix the embeddings of `longrope` and `dynamic` at what they are for `longest` tokens; whether that changes them.

    transformers chooses their frequencies anew in each forward pass, for the longest row in it: what a token's
    log-prob is would depend on what is computed beside it, and on how much of the response is there already.
    """
    changed = False
    for module in model.modules():
        kinds: Any = getattr(module, "rope_type", None)
        if isinstance(kinds, str) and _depends(kinds):
            changed |= _fix(module, longest, "", {})
            setattr(module, "rope_type", FIXED)  # noqa: B010 - a module's attributes are tensors to mypy
        elif isinstance(kinds, dict):  # of each type of layer
            for layer, kind in kinds.items():
                if _depends(kind):
                    changed |= _fix(module, longest, f"{layer}_", {"layer_type": layer})
                    kinds[layer] = FIXED
    return changed


def _depends(kind: object) -> bool:
    return isinstance(kind, str) and (kind == "longrope" or "dynamic" in kind)


def _fix(module: nn.Module, longest: int, prefix: str, layer: dict[str, Any]) -> bool:
    """Let the embedding see the last position of the longest sequence; whether its frequencies are others now."""
    before = module.get_buffer(f"{prefix}inv_freq").clone()
    last = torch.tensor([[longest - 1]], device=before.device)
    module(before, position_ids=last, **layer)
    return not torch.equal(before, module.get_buffer(f"{prefix}inv_freq"))


def fixed_rotary(model: PreTrainedModel) -> list[list[float]]:
    """The frequencies of the embeddings that were fixed: they are in no file of the model."""
    return [
        buffer.tolist()
        for module in model.modules()
        if FIXED in _kinds(module)
        for name, buffer in module.named_buffers(recurse=False)
        if name.endswith("inv_freq") and "original" not in name
    ]


def _kinds(module: nn.Module) -> list[object]:
    kinds: Any = getattr(module, "rope_type", None)
    return list(kinds.values()) if isinstance(kinds, dict) else [kinds]
