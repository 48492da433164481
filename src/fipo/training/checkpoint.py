"""Checkpoints: the policy as transformers reads it, the optimizer, and where the run stood.

Every random stream is a function of the seed and the step, so the state of the generators is the step.
Written to a temporary folder, then renamed: a folder called `step_NNNNNN` is whole.
"""

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fipo.errors import UserError
from fipo.telemetry.run_directory import RunDirectory

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a run stands."""

    step: int  # finished training steps
    problems_taken: int  # from the problem stream
    skipped_updates: int


def save(
    run: RunDirectory,
    position: Position,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    optimizer: torch.optim.Optimizer,
    *,
    keep: int,
) -> Path:
    """Write `checkpoints/step_NNNNNN` and remove all but the newest `keep` checkpoints."""
    run.checkpoints.mkdir(exist_ok=True)
    final = run.checkpoints / f"step_{position.step:06d}"
    temporary = run.checkpoints / f".{final.name}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    model.save_pretrained(temporary, max_shard_size="1000GB")
    tokenizer.save_pretrained(temporary)
    save_file(_optimizer_tensors(model, optimizer), temporary / "optimizer.safetensors")
    (temporary / "state.json").write_text(json.dumps(asdict(position)))
    files = sorted(path for path in temporary.rglob("*") if path.is_file())
    hashes = {str(path.relative_to(temporary)): _sha256(path) for path in files}
    (temporary / MANIFEST).write_text(json.dumps(hashes, indent=1))
    for path in [*temporary.rglob("*"), temporary]:
        _fsync(path)
    _remove(final)
    temporary.rename(final)
    _fsync(run.checkpoints)
    for old in run.all_checkpoints()[:-keep]:
        _remove(old)
    return final


def restore(path: Path, model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> Position:
    """Load weights and optimizer state in place.

    Raises UserError if a file is missing or its hash is not the manifest's.
    """
    try:
        manifest = json.loads((path / MANIFEST).read_text())
    except (OSError, ValueError):
        raise UserError(f"{path}: {MANIFEST} is damaged or missing") from None
    for name, expected in manifest.items():
        if not (path / name).is_file() or _sha256(path / name) != expected:
            raise UserError(f"{path}: {name} is damaged or missing (its SHA-256 is not the manifest's)")
    weights = load_file(path / "model.safetensors")
    missing, unexpected = model.load_state_dict(weights, strict=False)
    tied = set(model.all_tied_weights_keys)
    if unexpected or set(missing) - tied:
        raise UserError(f"{path}: the weights do not fit the model: {sorted({*unexpected, *missing} - tied)[:3]}")
    _load_optimizer(load_file(path / "optimizer.safetensors"), model, optimizer)
    return Position(**json.loads((path / "state.json").read_text()))


def _remove(checkpoint: Path) -> None:
    """Out of sight by one rename first, so that no half-deleted folder is ever called `step_NNNNNN`."""
    doomed = checkpoint.with_name(f".{checkpoint.name}.old")
    shutil.rmtree(doomed, ignore_errors=True)
    if checkpoint.exists():
        checkpoint.rename(doomed)
        shutil.rmtree(doomed)


def _optimizer_tensors(model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's state as `parameter|field` tensors."""
    return {
        f"{name}|{field}": tensor
        for name, parameter in model.named_parameters()
        for field, tensor in optimizer.state.get(parameter, {}).items()
    }


def _load_optimizer(tensors: dict[str, Tensor], model: PreTrainedModel, optimizer: torch.optim.Optimizer) -> None:
    parameters = dict(model.named_parameters())
    optimizer.state.clear()
    for key, tensor in tensors.items():
        name, field = key.rsplit("|", 1)
        parameter = parameters[name]
        device = "cpu" if field == "step" else parameter.device
        optimizer.state[parameter][field] = tensor.to(device)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
