"""The recipes that come with the package, by name, and which command takes a recipe."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from fipo.errors import UserError
from fipo.recipe.toml import read_recipe

FOLDER = Path(__file__).parents[1] / "recipes"  # in the repository a link to its recipe/
FOLDERS = {"train": ".", "eval": "eval", "study": "study", "launch": "fipo"}  # of each command's recipes
TELLING = {  # tables that recipes of one kind alone have
    "job": "launch",
    "study": "study",
    "credit": "credit",
    "sampling": "eval",
    "server": "eval",
    "rollout": "train",
    "update": "train",
}
COMMANDS = {kind: f"fipo {kind}" for kind in FOLDERS} | {"credit": "python -m fipo.study.credit"}
SHARED = "_base"  # what several recipes extend


@dataclass(frozen=True, kw_only=True)
class Packaged:
    """A recipe that comes with the package."""

    name: str  # what the command calls it
    kind: str
    path: Path
    summary: str
    machine: str  # what it needs, and hours where they are known


def packaged() -> Iterator[Packaged]:
    """Every one but those that are there to be extended, kind by kind."""
    for kind, folder in FOLDERS.items():
        for path in sorted((FOLDER / folder).glob("*.toml")):
            if not path.stem.endswith(SHARED):
                summary, machine = _said(path)
                found = kind_of(path) or kind
                yield Packaged(name=path.stem, kind=found, path=path, summary=summary, machine=machine)


def listing() -> str:
    """All of them under the command that takes them, each with its machine, and what it is on the next line."""
    every = list(packaged())
    blocks = [
        "\n".join(
            [command] + [f"  {each.name}: {each.machine}\n      {each.summary}" for each in every if each.kind == kind]
        )
        for kind, command in COMMANDS.items()
    ]
    return "\n\n".join(blocks)


def find_recipe(given: Path, kinds: Sequence[str]) -> Path:
    """The file that `given` stands for: a path, or the name of a packaged recipe of one of these kinds.

    Raises UserError, one line, if there is neither, for a folder, and for a recipe that another command takes.
    """
    if given.is_dir():
        run = " (the recipe of a run is its config.toml)" if (given / "config.toml").is_file() else ""
        raise UserError(f"{given}: must be a recipe, got a folder{run}")
    path = given if given.exists() else _named(given, kinds)
    kind = kind_of(path)
    if kind is not None and kind not in kinds:
        wanted = " or ".join(COMMANDS[each] for each in kinds)
        raise UserError(f"{given}: must be a recipe of {wanted}, got one of {COMMANDS[kind]}: {COMMANDS[kind]} {given}")
    return path


def kind_of(path: Path) -> str | None:
    """Which command takes the recipe, told by its tables; None if they do not say. Raises UserError if it is none."""
    tables = read_recipe(path, {})
    return next((kind for table, kind in TELLING.items() if table in tables), None)


def _named(given: Path, kinds: Sequence[str]) -> Path:
    """Raises UserError if no packaged recipe of these kinds has the name, with the nearest one there is."""
    for kind in kinds:
        path = FOLDER / FOLDERS[kind] / f"{given}.toml"
        if path.is_file():
            return path
    for kind in FOLDERS:
        if (FOLDER / FOLDERS[kind] / f"{given}.toml").is_file():
            raise UserError(f"{given}: is a recipe of {COMMANDS[kind]}: {COMMANDS[kind]} {given}")
    known = [path.stem for kind in kinds for path in sorted((FOLDER / FOLDERS[kind]).glob("*.toml"))]
    near = difflib.get_close_matches(given.stem, known, n=1)
    here = difflib.get_close_matches(given.stem, [path.stem for path in given.parent.glob("*.toml")], n=1)
    if here:
        hint = f" (did you mean {given.parent / here[0]}.toml?)"
    elif near:
        hint = f" (did you mean {near[0]}? see fipo recipes)"
    else:
        hint = "" if given.suffix or len(given.parts) > 1 else " (fipo recipes lists those that come with fipo)"
    raise UserError(f"no such recipe: {given}{hint}")


def _said(path: Path) -> tuple[str, str]:
    """The first line of the comment that a recipe begins with, and its line `Machine:`, or that of what it extends."""
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = [line.removeprefix("#").strip() for line in takewhile(lambda line: line.startswith("#"), lines)]
    machine = [line.removeprefix("Machine:").strip() for line in comment if line.startswith("Machine:")]
    base = [line.partition('"')[2].rstrip('"') for line in lines if line.startswith("extends")]
    summary = comment[0] if comment else ""
    if not machine and base:
        return summary, _said(path.parent / base[0])[1]
    return summary, machine[0] if machine else "not said"
