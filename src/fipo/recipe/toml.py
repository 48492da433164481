"""A recipe as plain values: TOML on top of what it extends, with the command line's overrides on top of both."""

import math
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fipo.errors import UserError, why
from fipo.files import read_regular

LARGEST_FILE = 10_000_000  # bytes
LONGEST_CHAIN = 16  # recipes that extend one another
DEEPEST = 32  # tables and lists inside one another

FOLDERS: list[str] = []  # of the recipes that were read, the latest first: the modules that they name may be there


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """`["train", "--run.steps", "20", "x.toml"]` as `["train", "x.toml"]` and `{"run.steps": "20"}`.

    Raises UserError for an override without a value, and for a key that is none.
    """
    plain: list[str] = []
    overrides = {}
    words = iter(arguments)
    for word in words:
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or "." not in key:
            plain.append(word)
            continue
        if not all(key.split(".")):
            raise UserError(f"an override must look like --section.key value, got {word}")
        overrides[key] = value if equals else next(words, "")
        if not equals and not overrides[key]:
            raise UserError(f"--{key} must be followed by a value, got nothing")
    return plain, overrides


def read_recipe(path: Path, overrides: dict[str, str]) -> dict[str, Any]:
    """The recipe at `path`, on top of the one it `extends`, with overrides such as `{"run.steps": "20"}` on top.

    Raises UserError with one line that names the file for one that is not there, not TOML, or holds what no recipe
    can: whole numbers beyond TOML's 64 bits, NaN, the character NUL, tables nested beyond DEEPEST.
    """
    values = _read(path, seen=())
    for table in ("resolved", "versions"):  # a run's config.toml is a recipe too
        values.pop(table, None)
    above: dict[str, Any] = {}
    for key, text in overrides.items():
        override = _toml_value(text)
        parts = key.split(".")
        _refuse_what_no_recipe_holds(override, path, parts)
        for part in reversed(parts):
            override = {part: override}
        above = layered(above, override)
    return layered(values, above)


def _read(path: Path, seen: tuple[str, ...]) -> dict[str, Any]:
    """The values of a recipe on top of those of the one it extends."""
    values = _parsed(path)
    _refuse_what_no_recipe_holds(values, path, [])
    folder = os.path.realpath(path.parent)
    if folder not in FOLDERS:
        FOLDERS.insert(0, folder)
    if "extends" not in values:
        return values
    extends, seen = values.pop("extends"), (*seen, os.path.realpath(path))
    if not isinstance(extends, str):
        raise UserError(f"{path}: extends must be the path of a recipe, got {extends!r:.80}")
    base = path.parent / extends
    if os.path.realpath(base) in seen:
        raise UserError(f"{path}: extends must not lead back to itself, got {base}")
    if len(seen) == LONGEST_CHAIN:
        raise UserError(f"{path}: at most {LONGEST_CHAIN} recipes can extend one another, got {base} besides")
    return layered(_read(base, seen), values)


def _parsed(path: Path) -> dict[str, Any]:
    try:
        content = read_regular(path)
        if len(content) > LARGEST_FILE:
            raise UserError(f"{path}: a recipe must have at most {LARGEST_FILE:,} bytes, got {len(content):,}")
        return tomllib.loads(content.decode())
    except FileNotFoundError:
        raise UserError(f"no such recipe: {path}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read the recipe: {why(error)}") from None
    except RecursionError:
        raise UserError(f"{path}: not TOML: nested too deeply") from None
    except ValueError as error:  # for whole numbers of thousands of digits as well
        raise UserError(f"{path}: not TOML: {error}") from None


def _refuse_what_no_recipe_holds(values: Any, path: Path, key: list[str]) -> None:
    """`key` is that of the values."""
    waiting = [(values, key)]
    while waiting:
        value, key = waiting.pop()
        said = f"{path}: {'.'.join(key)}"
        if len(key) > DEEPEST:
            raise UserError(f"{path}: tables and lists must be nested at most {DEEPEST} deep")
        if isinstance(value, dict | list):
            entries = value.items() if isinstance(value, dict) else enumerate(value)
            waiting += [(entry, [*key, str(name)]) for name, entry in entries]
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise UserError(f"{said}: must be within TOML's 64 bits, got a number of {value.bit_length()} bits")
        elif isinstance(value, float) and math.isnan(value):
            raise UserError(f"{said}: must be a number, got nan")
        elif isinstance(value, str) and "\0" in value:
            raise UserError(f"{said}: must be without the character NUL, got {value!r:.80}")


def layered(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`below` with the values of `above` in place, table by table; another `source` replaces the whole table.

    So do several sources by name in place of one, and one in place of several.
    """
    if {"source"} <= above.keys() & below.keys() and above["source"] != below["source"]:
        return above
    if ("source" in above and are_sources(below)) or ("source" in below and are_sources(above)):
        return above
    merged = dict(below)
    for key, value in above.items():
        both_tables = isinstance(value, dict) and isinstance(below.get(key), dict)
        merged[key] = layered(below[key], value) if both_tables else value
    return merged


def are_sources(table: dict[str, Any]) -> bool:
    """Whether these are tables of sources by name, and not one source."""
    return "source" not in table and any(isinstance(value, dict) and "source" in value for value in table.values())


def _toml_value(text: str) -> Any:
    """`3`, `1e-5`, `true`, `[1.0, 1.2]` as TOML; anything else, and what is more than a value, as the text it is."""
    try:
        values = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return values["value"] if len(values) == 1 else text
