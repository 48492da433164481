"""Checkpoints: the policy as transformers reads it, the optimizer, and where the run stood.

Every random stream is a function of the seed and the step, so the state of the generators is the step.
A folder called `step_NNNNNN` is whole: it is written under another name, flushed to disk, its manifest of SHA-256
last, and renamed. Safetensors and JSON only.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fipo.errors import RunStopped, UserError
from fipo.files import refuse_odd
from fipo.telemetry.durable import DiskError, disk_errors, fsync, remove
from fipo.telemetry.run_directory import RunDirectory
from fipo.training.policy import lora
from fipo.training.policy.optimizer import MasterAdamW
from fipo.training.saving.history import HISTORY, WrittenHistory

MANIFEST = "manifest.json"
ADAPTER = "adapter"  # transformers would take its files for the model, if they stood beside that
STATE, OPTIMIZER = "state.json", "optimizer.safetensors"
READ = {".json", ".safetensors"}  # endings of what a loader may read


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a run stands."""

    step: int = 0  # finished training steps
    problems_taken: int = 0  # from the problem stream
    skipped_updates: int = 0
    loss_scale: float | None = None  # of a float16 policy
    clean_updates: int = 0  # since that changed


def save(
    run: RunDirectory,
    position: Position,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    optimizer: MasterAdamW,
    history: WrittenHistory,
    *,
    keep: int,
) -> Path:
    """Write `checkpoints/step_NNNNNN`; then remove all but the newest `keep` and the best by evaluation.

    Raises RunStopped if a weight is not finite and DiskError if there is no room; what was there stays in both cases.
    """
    optimizer_tensors = optimizer.state_tensors()
    _refuse_non_finite({**model.state_dict(), **optimizer_tensors}, position)
    final = run.checkpoints / f"step_{position.step:06d}"
    temporary = run.checkpoints / f".{final.name}.tmp"
    needed = sum(t.numel() * t.element_size() for t in [*model.state_dict().values(), *optimizer_tensors.values()])
    try:
        with disk_errors(final, needed):
            remove(temporary)
            run.checkpoints.mkdir(exist_ok=True)
            temporary.mkdir()
            with _library_errors():
                _save_model(model, temporary)
                tokenizer.save_pretrained(temporary)
                save_file(optimizer_tensors, temporary / OPTIMIZER)
            (temporary / STATE).write_text(json.dumps(asdict(position)))
            (temporary / HISTORY).write_text(history.vouched())
            _seal(temporary)
            _remove(final)
            temporary.rename(final)
            fsync(run.checkpoints)
    except DiskError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    prune(run, keep, history.best)
    return final


def prune(run: RunDirectory, keep: int, best: int | None) -> None:
    """Remove all checkpoints but the newest `keep` and that of step `best`."""
    for path in run.all_checkpoints()[:-keep]:
        if step_of(path) != best:
            with disk_errors(path):
                _remove(path)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step_"))


def restore_newest(
    run: RunDirectory,
    model: PreTrainedModel,
    optimizer: MasterAdamW,
    say: Callable[[str], None],
    misfit: Callable[[Path, int], str | None] = lambda checkpoint, step: None,
) -> Position:
    """Load the newest checkpoint that is whole and that no `misfit` speaks against; say what is wrong with others.

    Without any checkpoint that is the beginning. Raises UserError if there are some, and none will do.
    """
    checkpoints, wrong = run.all_checkpoints(), ""
    for path in reversed(checkpoints):
        reason = find_damage(path) or misfit(path, step_of(path))
        if reason is None:
            return _restore(path, model, optimizer)
        wrong = f"{path}: {reason}"
        if path != checkpoints[0]:
            say(f"{wrong}; going back to the checkpoint before it")
    if checkpoints:
        raise UserError(f"{wrong}; no checkpoint is left to go on from: begin again under another --run.name")
    return Position()


def set_damaged_aside(run: RunDirectory, step: int, say: Callable[[str], None]) -> None:
    """Rename the checkpoints after `step`, and damaged ones before it, so that none is taken for whole again."""
    for path in run.all_checkpoints():
        damage = find_damage(path) if step_of(path) < step else None
        if damage or step_of(path) > step:
            aside = path.with_name(f"damaged_{path.name}")
            with disk_errors(path):
                _remove(aside)
                path.rename(aside)
        if damage:
            say(f"{path}: {damage}; it is called {aside.name} now")


def find_damage(path: Path) -> str | None:
    """Which file of a checkpoint is not what its manifest says, or None."""
    try:
        refuse_odd(path / MANIFEST)
        manifest = json.loads((path / MANIFEST).read_bytes())
        hashes = dict(manifest["files"])
        if manifest["sha256"] != _sha256_of(hashes):
            return f"{MANIFEST} is damaged (its SHA-256 is not the one in it)"
        for name, expected in hashes.items():
            if problem := _what_is_wrong(path / name, expected):
                return f"{name} is {problem}"
        for name in (STATE, OPTIMIZER):
            if name not in hashes:
                return f"{MANIFEST} does not name {name}"
        step = json.loads((path / STATE).read_bytes())["step"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return f"{MANIFEST} is damaged or missing"
    if step != step_of(path):
        return f"{STATE} is that of step {step}"
    strange = [file.name for file in path.iterdir() if file.suffix in READ and file.name not in {MANIFEST, *hashes}]
    return f"{strange[0]} is not in its {MANIFEST}" if strange else None


def _what_is_wrong(file: Path, sha256: str) -> str | None:
    try:
        refuse_odd(file)
        return None if _sha256(file) == sha256 else "damaged (its SHA-256 is not the manifest's)"
    except OSError:
        return "missing or cannot be read"


def _restore(path: Path, model: PreTrainedModel, optimizer: MasterAdamW) -> Position:
    # By transformers, which may store weights otherwise than it holds them (the experts of a mixture one by one).
    saved: Any = type(model).from_pretrained(path, dtype=model.dtype, output_loading_info=True)
    weights, report = saved
    unfit = sorted({*map(str, report["missing_keys"]), *map(str, report["unexpected_keys"])})
    if unfit:
        raise UserError(f"{path}: the weights do not fit the model: {unfit[:3]}")
    if lora.is_adapted(model):
        lora.load_adapters(model, path / ADAPTER, weights.state_dict())
    else:
        model.load_state_dict(weights.state_dict())
    optimizer.load_state_tensors(load_file(path / OPTIMIZER))
    return Position(**json.loads((path / STATE).read_text()))


def _save_model(model: PreTrainedModel, folder: Path) -> None:
    """What `from_pretrained` loads; of an adapted model with the adapters merged, and these in their own folder."""
    adapted = lora.is_adapted(model)
    model.save_pretrained(folder, state_dict=lora.merged_weights(model) if adapted else None, max_shard_size="1000GB")
    if adapted:
        lora.save_adapters(model, folder / ADAPTER)


def _seal(folder: Path) -> None:
    """Everything in `folder` on disk, the manifest last."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in [*files, *{path.parent for path in files}]:
        fsync(path)
    hashes = {str(path.relative_to(folder)): _sha256(path) for path in files}
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"files": hashes, "sha256": _sha256_of(hashes)}, indent=1))
    fsync(manifest)
    fsync(folder)


def _remove(checkpoint: Path) -> None:
    """Out of sight by one rename first, so that no half-deleted folder is ever called `step_NNNNNN`."""
    doomed = checkpoint.with_name(f".{checkpoint.name}.old.tmp")
    remove(doomed)
    if checkpoint.exists():
        checkpoint.rename(doomed)
        remove(doomed)


def _refuse_non_finite(tensors: dict[str, Tensor], position: Position) -> None:
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise RunStopped(
                f"after step {position.step}: {name} must be finite to be saved, got NaN or inf; "
                "the last checkpoint is untouched"
            )


@contextmanager
def _library_errors() -> Iterator[None]:
    """Raise what safetensors and tokenizers make of an error of the system as that OSError again."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_of(hashes: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
