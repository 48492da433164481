"""`fipo export`: the model of a run's checkpoint, without what only training needs."""

import shutil
from pathlib import Path

from fipo.errors import UserError
from fipo.publish.card import model_card
from fipo.telemetry.durable import disk_errors
from fipo.telemetry.run_directory import RunDirectory
from fipo.training.saving.checkpoint import ADAPTER, MANIFEST, find_damage

OF_TRAINING = {"optimizer.safetensors", "state.json", MANIFEST, ADAPTER}


def export(run: RunDirectory, folder: Path, *, step: int | None = None, name: str | None = None) -> list[Path]:
    """Write the weights (adapters merged), tokenizer, model card, recipe and metrics; returns the files.

    step: of the checkpoint; None = the newest. name: what the card calls the model; None = the folder's name.
    Raises UserError for a run without that checkpoint or with a damaged one, and if the folder is there and not empty.
    """
    checkpoint = checkpoint_of(run, step)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder}: must be a folder that is new or empty")
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path in sorted(checkpoint.iterdir()):
            if path.name not in OF_TRAINING:
                shutil.copyfile(path, folder / path.name)
        shutil.copyfile(run.config, folder / "recipe.toml")
        shutil.copyfile(run.metrics, folder / "metrics.jsonl")
        card = model_card(run, name=name or folder.resolve().name, step=_step_of(checkpoint))
        (folder / "README.md").write_text(card, encoding="utf-8")
    return sorted(folder.iterdir())


def checkpoint_of(run: RunDirectory, step: int | None) -> Path:
    """The checkpoint of a step, or the newest, every file of it as it was written. Raises UserError for any other."""
    every = {_step_of(path): path for path in run.all_checkpoints()}
    if not every:
        raise UserError(f"{run.path}: no checkpoint has been written yet")
    if step is not None and step not in every:
        raise UserError(
            f"--step must be one of {', '.join(map(str, every))}, the checkpoints of {run.path}, got {step}"
        )
    checkpoint = every[max(every) if step is None else step]
    if damage := find_damage(checkpoint):
        raise UserError(f"{checkpoint}: {damage}")
    return checkpoint


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step_"))
