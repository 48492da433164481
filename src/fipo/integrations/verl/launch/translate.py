"""A step of verl under the names of docs/metrics.md, and a job's settings under those of our config.toml."""

import re
from collections.abc import Iterable
from typing import Any

from fipo.errors import UserError
from fipo.integrations.verl.launch.objective import knobs_of
from fipo.integrations.verl.launch.recipe import LaunchRecipe

NAMES = {  # verl's keys, and ours for the same quantity
    "actor/entropy": "policy/entropy",
    "actor/grad_norm": "policy/grad_norm",
    "actor/loss": "policy/loss",
    "actor/lr": "update/learning_rate",
    "response_length/mean": "response_length/mean",  # the lengths are of the groups that were kept
    "response_length/min": "response_length/min",
    "response_length/max": "response_length/max",
    "timing_s/gen": "time/generate",
    "timing_s/old_log_prob": "time/old_logprobs",
    "timing_s/update_actor": "time/update",
    "timing_s/step": "time/step",
}
OURS = ("groups/", "reward/", "accuracy/", "grade/")  # of everything that was generated; v1.py writes them
VALIDATION = re.compile(r"val-core/(?P<source>.+)/acc/(?P<what>mean|maj|best)@(?P<samples>[0-9]+)(?P<mean>/mean)?")
ESTIMATES = {"mean": "eval/avg_at_k", "maj": "eval/cons_at_k", "best": "eval/pass_at_k"}


def translate(values: dict[str, Any], recipe: LaunchRecipe) -> dict[str, float]:
    """The metrics of a step of verl under our names; what has no such name keeps its own behind `verl/`."""
    numbers = {key: float(value) for key, value in values.items() if isinstance(value, int | float)}
    ours = {_name(key): value for key, value in numbers.items()}
    if "response_length/clip_ratio" in numbers:  # verl: as long as the longest response of the batch
        full = numbers["response_length/max"] >= recipe.whole_number("data.max_response_length")
        ours["response_length/truncated"] = numbers["response_length/clip_ratio"] if full else 0.0
    if "critic/score/mean" in numbers:  # of the groups that were kept: all that verl's own trainer knows
        ours.setdefault("reward/mean", numbers["critic/score/mean"])
    return ours | {name: value for name, (value, _) in _evaluation(numbers).items()}


def check_batch(step: int, values: dict[str, Any], recipe: LaunchRecipe) -> None:
    """Raise UserError where the metrics are of a job with another batch or longer responses than the recipe's.

    Only our trainer reports its batch; of verl's own the metrics do not say how many groups there were.
    """
    for key, setting, fits in (
        ("groups/kept", "data.train_batch_size", lambda found, said: found == said),
        ("response_length/max", "data.max_response_length", lambda found, said: found <= said),
    ):
        said = recipe.whole_number(setting)
        if key in values and not fits(values[key], said):
            raise UserError(
                f"step {step}: {key} {values[key]:g} is not of a job with verl.{setting} {said}: "
                f"give collect the overrides of the job, --verl.{setting} and all others"
            )


def config_of(recipe: LaunchRecipe, name: str, metrics: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """What config.toml holds of a job of verl: what readers of a run directory look for, and verl's own tables.

    metrics: verl's, of each step.

    Raises UserError for settings of the objective that do not fit.
    """
    knobs = knobs_of(recipe)
    objective = {name: value for name, value in knobs.algorithm().settings().items() if value is not None}
    samples = max((k for values in metrics for _, k in _evaluation(values).values()), default=0)
    known = {
        "steps": recipe.table("trainer").get("total_training_steps"),
        "seed": recipe.table("data").get("seed"),
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
        "objective": {"preset": knobs.preset, **objective},
        "update": {"mini_batches": recipe.updates},
        **({"eval": {"samples": samples}} if samples else {}),
        "resolved": {"objective": objective},
        "verl": recipe.verl,
    }


def _name(key: str) -> str:
    if key.startswith(("actor/fipo/", "actor/policy/", "actor/rollout/")):
        return key.removeprefix("actor/")
    if key.startswith(OURS):
        return key
    return NAMES.get(key, f"verl/{key}")


def _evaluation(values: dict[str, Any]) -> dict[str, tuple[float, int]]:
    """Our estimates and their k, the most samples that verl evaluated with; the mean over data sources."""
    found: dict[str, dict[int, list[float]]] = {}
    for key, value in values.items():
        if (match := VALIDATION.fullmatch(key)) and (match["what"] == "mean") == (match["mean"] is None):
            found.setdefault(ESTIMATES[match["what"]], {}).setdefault(int(match["samples"]), []).append(value)
    return {name: (sum(by_k[max(by_k)]) / len(by_k[max(by_k)]), max(by_k)) for name, by_k in found.items()}
