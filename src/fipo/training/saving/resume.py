"""What a run records of itself in config.toml, and what `--resume` may change."""

import hashlib
import json
import platform
from collections.abc import Callable, Sequence
from dataclasses import asdict, fields
from importlib.metadata import version
from typing import Any

import torch

from fipo import __version__
from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.rollout.prompts import on_its_day, rendered
from fipo.telemetry.run_directory import RunDirectory
from fipo.training.control import Control
from fipo.training.recipe import Recipe, load_recipe
from fipo.training.setup import Setup

FREE_TO_CHANGE = {  # on --resume: none of it changes what a step computes, but run.steps under a schedule that ends
    "run.steps",
    "run.folder",
    "run.name",
    "data.max_bad_rows",
    "grading.workers",
    "grading.deadline_seconds",
    "grading.memory_mib",
    "grading.max_failures",
    "update.max_skipped",
    "checkpoint.every",
    "checkpoint.keep",
    "telemetry.noise_every",
    "telemetry.on_lost_rollouts",
    "telemetry.stall_seconds",
    "telemetry.trackers",
}
PACKAGES = ("torch", "transformers", "tokenizers")
FINGERPRINT = {  # what each part of it is called
    "tokenizer": "the tokenizer of model.path",
    "stop_tokens": "the stop tokens",
    "config": "the config of model.path",
    "weights": "the weights of model.path",
    "grader": "the source of data.grader",
    "surrogate": "the source of objective.surrogate",
}


def dated(recipe: Recipe, run: RunDirectory, *, continued: bool) -> Recipe:
    """The recipe with the day that chat templates see, which is one for the whole run."""
    begun = run.read_config().get("data", {}) if continued else None
    return recipe.model_copy(update={"data": on_its_day(recipe.data, begun)})


def resolved_config(recipe: Recipe, setup: Setup) -> dict[str, Any]:
    """What config.toml holds: the recipe, the objective that its preset stands for, the data's hashes, the versions."""
    model, control = setup.trainer.model, setup.trainer.control
    algorithm = recipe.objective.algorithm()
    others = {
        field.name: getattr(algorithm, field.name)
        for field in fields(algorithm)
        if field.name not in ("config", "surrogate")
    }
    data = {
        "train_sha256": fingerprint(setup.trainer.stream.problems),
        "eval_sha256": fingerprint(setup.eval_problems),
    }
    if recipe.data.prompt_format == "chat":
        data["prompts_sha256"] = _prompts(recipe, setup)
    return {
        **recipe.model_dump(exclude_none=True),
        "resolved": {
            "surrogate": algorithm.surrogate.name,
            **_given(others),
            **({"control": control.name} if control else {}),
            "objective": _given(algorithm.settings()),
            "data": data,
            "fingerprint": setup.fingerprint,
        },
        "versions": {
            "python": platform.python_version(),
            "fipo": __version__,
            **{package: version(package) for package in _packages(recipe)},
            "precision": f"{str(model.dtype).removeprefix('torch.')} on {model.device.type}",
            **_processor(model.device),
        },
    }


def _given(values: dict[str, Any]) -> dict[str, Any]:
    """Without what is off, as TOML has no word for it."""
    return {name: value for name, value in values.items() if value is not None}


def _packages(recipe: Recipe) -> list[str]:
    lora = recipe.model.lora
    in_bits = recipe.update.optimizer != "adamw" or (lora is not None and lora.base == "4bit")
    return [*PACKAGES, *(["peft"] if lora else []), *(["bitsandbytes"] if in_bits else [])]


def fingerprint(problems: Sequence[Problem]) -> str:
    """SHA-256 of problems in their order."""
    sha256 = hashlib.sha256()
    for problem in problems:
        sha256.update(json.dumps(asdict(problem), sort_keys=True).encode())
    return sha256.hexdigest()


def _prompts(recipe: Recipe, setup: Setup) -> str:
    """SHA-256 of what the chat template makes of all problems."""
    sha256 = hashlib.sha256()
    for problem in [*setup.trainer.stream.problems, *setup.eval_problems]:
        sha256.update(json.dumps(rendered(problem, setup.trainer.tokenizer, recipe.data)).encode())
    return sha256.hexdigest()


def check_same_recipe(recipe: Recipe, run: RunDirectory, control: Control | None = None) -> None:
    """Raise UserError if the recipe or the control differs from the run's in what could change its result."""
    config = run.read_config()
    if not all(isinstance(config.get(table), dict) for table in ("resolved", "versions")):
        raise UserError(f"{run.config}: damaged: it lacks tables that every run writes")
    given = dated(recipe, run, continued=True)
    before, now = (flat(r.model_dump(exclude_none=True)) for r in (load_recipe(run.config, {}), given))
    free = FREE_TO_CHANGE if recipe.update.schedule == "constant" else FREE_TO_CHANGE - {"run.steps"}
    for key in sorted({*before, *now} - free):
        if before.get(key) != now.get(key):
            raise UserError(
                f"{run.path}: --resume needs the recipe that the run began with; "
                f"{key} was {before.get(key)!r}, got {now.get(key)!r} (or choose another --run.name)"
            )
    began, got = config["resolved"].get("control", "none"), control.name if control else "none"
    if began != got:
        raise UserError(f"{run.path}: --resume needs the control that the run began with, {began!r}, got {got!r}")


def check_same_data(run: RunDirectory, config: dict[str, Any], say: Callable[[str], None]) -> None:
    """Raise UserError if the problems are not those that the run began with; mention packages that changed."""
    before = run.read_config()
    data = _recorded(run, before, "data")
    for role in ("train", "eval"):
        if data.get(f"{role}_sha256") != config["resolved"]["data"][f"{role}_sha256"]:
            raise UserError(
                f"{run.path}: --resume needs the problems that the run began with; those of data.{role} have changed"
            )
    was, now = (table["resolved"]["data"].get("prompts_sha256") for table in (before, config))
    if was not in (None, now):
        raise UserError(
            f"{run.path}: --resume needs the prompts that the run began with; the chat template makes others of them"
        )
    for package, now in config["versions"].items():
        then = before["versions"].get(package)
        if then not in (None, now):
            say(f"note: {package} was {then} when the run began and is {now}: results may differ in rounding")


def check_same_fingerprint(run: RunDirectory, config: dict[str, Any], say: Callable[[str], None]) -> None:
    """Raise UserError if what decides samples is not what the run began with, once it has some.

    Under other versions or another precision a difference may come from these, and is mentioned. A run that was begun
    by a version without fingerprints, and another commit of a hub model with the same files in it, go on.
    """
    before = run.read_config()
    then, now = _recorded(run, before, "fingerprint"), config["resolved"]["fingerprint"]
    commits = then.get("revision"), now.get("revision")
    moved = (
        f" (commit {commits[0]} on the hub, now {commits[1]})" if None not in commits and len({*commits}) > 1 else ""
    )
    changed = [name for part, name in FINGERPRINT.items() if part in then and then[part] != now.get(part)]
    if changed:
        what = f"{' and '.join(changed)} changed{moved}"
        if any(
            before["versions"].get(key) != config["versions"][key]
            for key in ("transformers", "tokenizers", "precision")
        ):
            say(f"note: {what}, or the versions make another of the same")
        elif run.whole_steps():
            raise UserError(f"{run.path}: --resume needs what the run began with; {what}")
    elif moved:
        say(f"note: model.path is the same model in another commit{moved}")


def _recorded(run: RunDirectory, config: dict[str, Any], table: str) -> dict[str, Any]:
    """A table of [resolved]; {} of a run that was begun without it. Raises UserError for what is no table."""
    found = config["resolved"].get(table, {})
    if not isinstance(found, dict):
        raise UserError(f"{run.config}: damaged: resolved.{table} must be a table, got {found!r:.80}")
    return found


def _processor(device: torch.device) -> dict[str, str]:
    """What computes, as rounding is its own: of a CPU also in how many threads (OMP_NUM_THREADS)."""
    if device.type == "cuda":
        return {"processor": torch.cuda.get_device_name(device)}
    return {"processor": torch.backends.cpu.get_cpu_capability(), "threads": str(torch.get_num_threads())}


def flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": (1, 2)}}` as `{"a.b": [1, 2]}`."""
    entries: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            entries |= flat(value, f"{prefix}{key}.")
        else:
            entries[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return entries
