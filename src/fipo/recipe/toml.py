"""A recipe as plain values: TOML on top of what it extends, with the command line's overrides on top of both."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fipo.errors import UserError


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """`["train", "--run.steps", "20", "x.toml"]` as `["train", "x.toml"]` and `{"run.steps": "20"}`.

    Raises UserError for an override without a value.
    """
    plain: list[str] = []
    overrides = {}
    words = iter(arguments)
    for word in words:
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or "." not in key:
            plain.append(word)
            continue
        overrides[key] = value if equals else next(words, "")
        if not equals and not overrides[key]:
            raise UserError(f"--{key} must be followed by a value, got nothing")
    return plain, overrides


def read_recipe(path: Path, overrides: dict[str, str]) -> dict[str, Any]:
    """The recipe at `path`, on top of the one it `extends`, with overrides such as `{"run.steps": "20"}` on top.

    Raises UserError with one line that names the file for one that is not there or not TOML.
    """
    values = _read(path, seen=())
    for table in ("resolved", "versions"):  # a run's config.toml is a recipe too
        values.pop(table, None)
    above: dict[str, Any] = {}
    for key, text in overrides.items():
        override: Any = _toml_value(text)
        for part in reversed(key.split(".")):
            override = {part: override}
        above = layered(above, override)
    return layered(values, above)


def _read(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """The values of a recipe on top of those of the one it extends."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"no such recipe: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read the recipe: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path}: not TOML: {error}") from None
    if "extends" not in values:
        return values
    base = path.parent / str(values.pop("extends"))
    if base.resolve() in (*seen, path.resolve()):
        raise UserError(f"{path}: extends must not lead back to itself, got {base}")
    return layered(_read(base, (*seen, path.resolve())), values)


def layered(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`below` with the values of `above` in place, table by table; another `source` replaces the whole table."""
    if {"source"} <= above.keys() & below.keys() and above["source"] != below["source"]:
        return above
    merged = dict(below)
    for key, value in above.items():
        both_tables = isinstance(value, dict) and isinstance(below.get(key), dict)
        merged[key] = layered(below[key], value) if both_tables else value
    return merged


def _toml_value(text: str) -> Any:
    """`3`, `1e-5`, `true`, `[1.0, 1.2]` as TOML; anything else as the text it is."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
