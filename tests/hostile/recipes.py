"""Good recipes of every kind, with every key that there is, and the command that takes each."""

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fipo.evaluation.config import EvalRecipe
from fipo.integrations.verl.launch.recipe import LaunchRecipe
from fipo.recipe.table import Table, validate
from fipo.recipe.toml import layered, read_recipe
from fipo.study.config import Study
from fipo.training.recipe import Recipe

RECIPES = Path(__file__).parents[2] / "recipe"
Key = tuple[str, ...]

SOURCES: list[dict[str, Any]] = [
    {"source": "signed_sums", "count": 64},
    {"source": "countdown", "count": 64},
    {"source": "relay", "count": 64},
    {"source": "file", "path": ["a.jsonl", "b.jsonl"]},
    {"source": "hub", "name": "owner/name", "split": "train", "config": "main", "revision": "main"},
    {"source": "champ"},
    {"source": "reasoning_gym", "task": "chain_sum", "count": 4, "options": {"min_terms": 3}},
]
LORA = {"model": {"lora": {"rank": 4, "alpha": 8.0}}}
SERVER = {"url": "http://127.0.0.1:8000/v1", "model": "m"}


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A good recipe and all of its keys, those that it leaves out included."""

    command: tuple[str, ...]  # what stands before the recipe's path, and after it
    after: tuple[str, ...] = ()
    table: type[Table]
    values: dict[str, Any]
    keys: tuple[Key, ...]


def kinds() -> list[Kind]:
    """Every kind of recipe, and every kind of table in it."""
    train = read_recipe(RECIPES / "quickstart.toml", {})
    evaluation = read_recipe(RECIPES / "eval" / "quickstart.toml", {})
    served = {key: table for key, table in evaluation.items() if key != "model"} | {"server": SERVER}
    study = {
        "study": {
            "name": "s",
            "recipe": str(RECIPES / "study" / "sums_base.toml"),
            "seeds": 2,
            "contrasts": [["a", "b"]],
        },
        "arms": {"a": {"recipe": {"update": {"learning_rate": 1e-4}}, "control": "unguarded"}, "b": {"seeds": 1}},
    }
    launch = read_recipe(RECIPES / "fipo" / "fipo_qwen2.5_32b.toml", {})
    train = layered(train, {"data": {"examples": [{"prompt": "1+1=", "response": "2"}]}})
    trains = [layered(train, LORA), *(layered(train, {"data": {"train": one, "eval": one}}) for one in SOURCES)]
    return [
        *(_kind(("train", "--quiet"), (), Recipe, values) for values in trains),
        _kind(("doctor",), ("--no-samples",), Recipe, trains[0]),
        *(_kind(("eval",), (), EvalRecipe, values) for values in (evaluation, served)),
        _kind(("study",), (), Study, study),
        _kind(("launch", "--dry-run"), (), LaunchRecipe, launch),
        _kind(("doctor",), (), LaunchRecipe, launch),
    ]


def _kind(command: tuple[str, ...], after: tuple[str, ...], table: type[Table], values: dict[str, Any]) -> Kind:
    full = validate(table, values, "a good recipe").model_dump()
    keys = tuple(key for key in _keys(full) if key)
    return Kind(command=command, after=after, table=table, values=values, keys=keys)


def _keys(values: Any, key: Key = ()) -> Iterator[Key]:
    """Of lists of tables the first."""
    yield key
    if _is_tables(values):
        yield from _keys(values[0], (*key, "0"))
    elif isinstance(values, dict):
        for name, value in values.items():
            yield from _keys(value, (*key, name))


def _is_tables(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(one, dict) for one in values)


def put(values: dict[str, Any], key: Key, value: Any) -> dict[str, Any]:
    """A copy with the value there, in place of whatever is in the way."""
    changed = copy.deepcopy(values)
    table: Any = changed
    for name in key[:-1]:
        place = 0 if isinstance(table, list) else name
        below = table[0] if isinstance(table, list) else table.get(name)
        table[place] = below if isinstance(below, dict) or _is_tables(below) else {}
        table = table[place]
    table[0 if isinstance(table, list) else key[-1]] = value
    return changed


def without(values: dict[str, Any], key: Key) -> dict[str, Any]:
    """A copy that lacks the key, if it had it."""
    changed = copy.deepcopy(values)
    table: Any = changed
    for name in key[:-1]:
        table = table[0] if _is_tables(table) else table.get(name) if isinstance(table, dict) else None
    if isinstance(table, dict):
        table.pop(key[-1], None)
    return changed
