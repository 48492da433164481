"""A step of verl under the names of docs/metrics.md, and a job's settings under those of our config.toml."""

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, fields, replace
from typing import Any

from fipo.errors import UserError
from fipo.launch.keys import POLICY_LOSS
from fipo.launch.recipe import LaunchRecipe
from fipo.objective import ALGORITHMS, FIPOConfig

NAMES = {  # verl's keys, and ours for the same quantity
    "actor/entropy": "policy/entropy",
    "actor/grad_norm": "policy/grad_norm",
    "actor/loss": "policy/loss",
    "actor/lr": "update/learning_rate",
    "critic/score/mean": "reward/mean",  # this and the lengths: of the groups that were kept
    "response_length/mean": "response_length/mean",
    "response_length/min": "response_length/min",
    "response_length/max": "response_length/max",
    "timing_s/gen": "time/generate",
    "timing_s/old_log_prob": "time/old_logprobs",
    "timing_s/update_actor": "time/update",
    "timing_s/step": "time/step",
}
DROPPED = ("training/filter_groups/evicted_samples", "training/filter_groups/discarded_surplus_samples")  # groups
VALIDATION = re.compile(r"val-core/(?P<source>.+)/acc/(?P<what>mean|maj|best)@(?P<samples>[0-9]+)(?P<mean>/mean)?")
ESTIMATES = {"mean": "eval/avg_at_k", "maj": "eval/cons_at_k", "best": "eval/pass_at_k"}


def translate(values: dict[str, Any], recipe: LaunchRecipe) -> dict[str, float]:
    """The metrics of a step of verl under our names; what has no such name keeps its own behind `verl/`."""
    numbers = {key: float(value) for key, value in values.items() if isinstance(value, int | float)}
    ours = {_name(key): value for key, value in numbers.items()}
    for key in [key for key in ours if key.endswith("/mean_square")]:
        stem = key.removesuffix("/mean_square")
        ours[f"{stem}/std"] = math.sqrt(max(0.0, ours.pop(key) - ours[f"{stem}/mean"] ** 2))
    if "policy/filtered_sequences" in ours:  # verl averages over the updates
        ours["policy/filtered_sequences"] *= recipe.updates
    if "response_length/clip_ratio" in numbers:  # verl: as long as the longest response of the batch
        full = numbers["response_length/max"] >= recipe.whole_number("data.max_response_length")
        ours["response_length/truncated"] = numbers["response_length/clip_ratio"] if full else 0.0
        ours["groups/kept"] = recipe.whole_number("data.train_batch_size")
        ours["groups/generated"] = ours["groups/kept"] + sum(numbers.get(key, 0.0) for key in DROPPED)
    return ours | {name: value for name, (value, _) in _evaluation(numbers).items()}


def config_of(recipe: LaunchRecipe, name: str, metrics: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What config.toml holds of a job of verl: what readers of a run directory look for, and verl's own tables.

    metrics: verl's, of each step.

    Raises UserError for a setting of the policy loss that is none.
    """
    preset, objective = _objective(recipe)
    samples = max((k for values in metrics for _, k in _evaluation(values).values()), default=0)
    known = {
        "steps": recipe.verl.get("trainer", {}).get("total_training_steps"),
        "seed": recipe.verl["data"].get("seed"),
    }
    return {
        "run": {"name": name, **{key: value for key, value in known.items() if isinstance(value, int)}},
        "model": {"path": recipe.job.model},
        "data": {"prompt_format": "chat"},
        "rollout": {
            "groups": recipe.whole_number("data.train_batch_size"),
            "group_size": recipe.whole_number("actor_rollout_ref.rollout.n"),
            "max_response_tokens": recipe.whole_number("data.max_response_length"),
        },
        "objective": {"preset": preset, **objective},
        "update": {"mini_batches": recipe.updates},
        **({"eval": {"samples": samples}} if samples else {}),
        "resolved": {"objective": objective},
        "verl": recipe.verl,
    }


def _objective(recipe: LaunchRecipe) -> tuple[str, dict[str, Any]]:
    """The preset of the policy loss, and every setting that it stands for with the recipe's own in place."""
    table: Any = recipe.verl
    for part in POLICY_LOSS.split("."):
        table = table.get(part, {})
    preset = table.get("preset", "release_32b")
    if preset not in ALGORITHMS:
        raise UserError(f"verl.{POLICY_LOSS}.preset must be one of {', '.join(ALGORITHMS)}, got {preset!r}")
    names = [field.name for field in fields(FIPOConfig)]
    changes: dict[str, Any] = {name: None if table[name] == "null" else table[name] for name in names if name in table}
    try:
        settings = replace(ALGORITHMS[preset].config, **changes)
    except ValueError as error:
        raise UserError(f"verl.{POLICY_LOSS}: {error}") from None
    return preset, {name: value for name, value in asdict(settings).items() if value is not None}


def _name(key: str) -> str:
    if key.startswith(("actor/fipo/", "actor/policy/")):
        return key.removeprefix("actor/")
    return NAMES.get(key, f"verl/{key}")


def _evaluation(values: dict[str, Any]) -> dict[str, tuple[float, int]]:
    """Our estimates and their k, the most samples that verl evaluated with; the mean over data sources."""
    found: dict[str, dict[int, list[float]]] = {}
    for key, value in values.items():
        if (match := VALIDATION.fullmatch(key)) and (match["what"] == "mean") == (match["mean"] is None):
            found.setdefault(ESTIMATES[match["what"]], {}).setdefault(int(match["samples"]), []).append(value)
    return {name: (sum(by_k[max(by_k)]) / len(by_k[max(by_k)]), max(by_k)) for name, by_k in found.items()}
