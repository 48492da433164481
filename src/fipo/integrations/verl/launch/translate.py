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
MINI_BATCH = re.compile(r"actor/fipo/mini_batch_([0-9]+)/influence_weight/mean")
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


def check_batches(steps: dict[int, dict[str, Any]], recipe: LaunchRecipe) -> None:
    """Raise UserError where the metrics are of a job with another batch or longer responses than the recipe's.

    And where a job that trained says nothing of its batch: whatever the recipe says would be recorded then.
    """
    prompts, group = (recipe.whole_number(key) for key in ("data.train_batch_size", "actor_rollout_ref.rollout.n"))
    found = {step: batch_of(values) for step, values in steps.items() if "actor/grad_norm" in values}
    if found and not any(found.values()):
        raise UserError(
            f"step {min(found)}: holds neither groups/kept nor perf/total_num_tokens with the lengths, so the job's "
            f"batch is not known, and verl.data.train_batch_size {prompts} may not be it"
        )
    for step, values in steps.items():
        said = {"groups/kept": prompts, "responses": prompts * group, "updates": recipe.updates}
        keys = {
            "groups/kept": "data.train_batch_size",
            "responses": "data.train_batch_size x rollout.n",
            "updates": "data.train_batch_size / actor.ppo_mini_batch_size",
        }
        for name, number in (found.get(step) or {}).items():
            if number != said[name]:
                raise _not_of(step, f"{name} {number}", f"{keys[name]} {said[name]}")
        longest, limit = values.get("response_length/max", 0), recipe.whole_number("data.max_response_length")
        if longest > limit:
            raise _not_of(step, f"response_length/max {longest:g}", f"data.max_response_length {limit}")


def batch_of(values: dict[str, Any]) -> dict[str, int]:
    """What a training step says of its batch: groups, responses and updates, as far as it does.

    Responses: all tokens over the mean length of prompt and response. Not of several turns, where verl may make several
    rows of a trajectory. Only our trainer reports groups and the weights of each mini-batch.
    """
    found = {}
    if "groups/kept" in values:
        found["groups/kept"] = round(values["groups/kept"])
    length = sum(float(values.get(f"{part}_length/mean", 0.0)) for part in ("prompt", "response"))
    if "perf/total_num_tokens" in values and length and values.get("num_turns/max", 2) <= 2:
        found["responses"] = round(values["perf/total_num_tokens"] / length)
    updates = {match[1] for key in values if (match := MINI_BATCH.fullmatch(key))}
    if updates:
        found["updates"] = len(updates)
    return found


def _not_of(step: int, found: str, said: str) -> UserError:
    return UserError(
        f"step {step}: {found} is not of a job with verl.{said}: give collect the overrides of the job, all of them"
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
