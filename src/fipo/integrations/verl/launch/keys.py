"""verl's overrides from a recipe's `[verl]` table, each key checked against the list of those that verl has."""

import functools
import re
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

from fipo.errors import UserError
from fipo.integrations.verl.knobs import KEYS, POLICY_LOSS, original
from fipo.integrations.verl.launch.recipe import LaunchRecipe
from fipo.recipe.table import did_you_mean

VERL_VERSION = "0.9.1"
OPEN = "open"  # the kind of a table that is empty in verl, and handed on as it is
# tables that verl hands on as they are, besides those that are empty in its own configuration
OPEN_TABLES = (
    *("reward.reward_kwargs", "reward.custom_reward_function.reward_kwargs", "ray_kwargs.ray_init"),
    "actor_rollout_ref.actor.fsdp_config.mixed_precision",  # a field of verl's options that its own file leaves out
)
UNQUOTED = re.compile(r"[\w./:@%*?|+-]+", re.ASCII)  # Hydra reads such a text as it is


def overrides_of(recipe: LaunchRecipe) -> list[str]:
    """`key=value` for every key that the job sets, `+key=value` for those that verl's schema lacks.

    Raises UserError for a key that verl does not know, is a table there, has a value of another kind, or is of `[job]`.
    """
    from_job = _from_job(recipe)
    lines = []
    for key, value in _flat(recipe.verl, ""):
        if key in from_job:
            raise UserError(f"verl.{key} must be set as job.{from_job[key][0]}, got {value!r}")
        lines.append(f"{_mark(key, value)}{key}={hydra_text(value, key)}")
    return [*lines, *(f"{key}={hydra_text(value, key)}" for key, (_, value) in from_job.items())]


@functools.cache
def schema_keys() -> dict[str, str]:
    """Every key of verl's `ppo_trainer` configuration and its kind, as `schema` wrote them."""
    text = files("fipo.integrations.verl.launch").joinpath(f"verl_{VERL_VERSION}_keys.txt").read_text(encoding="utf-8")
    return dict(line.split() for line in text.splitlines())


def hydra_text(value: Any, key: str) -> str:
    """A value in Hydra's grammar of overrides."""
    if isinstance(value, bool | int | float):
        return str(value)
    if isinstance(value, str):
        return value if UNQUOTED.fullmatch(value) else _quoted(value)
    if isinstance(value, list):
        return "[" + ",".join(hydra_text(entry, key) for entry in value) + "]"
    raise UserError(f"verl.{key} must be a text, a number, true, false or a list of them, got {value!r}")


def _quoted(text: str) -> str:
    """In single quotes; to Hydra a backslash means something in front of a quote alone."""
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + ("\\'" if found[2] else ""), text) + "'"


def _from_job(recipe: LaunchRecipe) -> dict[str, tuple[str, Any]]:
    """verl's keys that `[job]` sets, with the name there and the value."""
    job = recipe.job
    return {
        "actor_rollout_ref.model.path": ("model", job.model),
        "data.train_files": ("train_file", job.train_file),
        "data.val_files": ("test_file", job.test_file),
        "trainer.experiment_name": ("name", job.name),
        "trainer.nnodes": ("nnodes", job.nnodes),
        "trainer.n_gpus_per_node": ("gpus_per_node", job.gpus_per_node),
        "trainer.default_local_dir": ("checkpoints", job.checkpoints),
    }


def _flat(table: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _flat(value, f"{key}.")
        else:
            yield key, value


def _mark(key: str, value: Any) -> str:
    """Hydra's mark of a key: none where verl has it, + where an open table gets it."""
    known = schema_keys()
    tables = (*OPEN_TABLES, *(key for key, kind in known.items() if kind == OPEN))
    ours = {f"{POLICY_LOSS}.{name}" for name in KEYS}
    if key in tables or any(other.startswith(f"{key}.") for other in known):
        raise UserError(f"verl.{key} must be a table")
    if key in known:
        _check_kind(key, value, known[key])
        return ""
    if key in ours or any(key.startswith(f"{table}.") for table in tables):
        return "+"
    table, _, name = key.rpartition(".")
    if table == POLICY_LOSS and (answer := original(name)):
        raise UserError(f"verl.{answer}")
    raise UserError(f"verl {VERL_VERSION} has no key {key}{did_you_mean(key, sorted({*known, *ours}))}")


def _check_kind(key: str, value: Any, kind: str) -> None:
    """Raise UserError for a text where verl has a number, and the like; null may stand anywhere."""
    fits = {
        "number": isinstance(value, int | float) and not isinstance(value, bool),
        "bool": isinstance(value, bool),
        "-": True,
    }
    if not fits[kind] and value != "null":
        expected = {"number": "a number", "bool": "true or false"}[kind]
        raise UserError(f"verl.{key} must be {expected}, got {value!r}")
