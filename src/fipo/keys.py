"""`fipo keys`: what each command's recipes may say, and the page docs/keys.md."""

import difflib
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from fipo.errors import UserError
from fipo.evaluation.config import EvalRecipe
from fipo.integrations.verl.launch.recipe import LaunchRecipe
from fipo.recipe.keys import Key, Section, sections_of
from fipo.recipe.table import Table
from fipo.study.config import Study
from fipo.training.recipe import Recipe

RECIPES: dict[str, type[Table]] = {"train": Recipe, "eval": EvalRecipe, "study": Study, "launch": LaunchRecipe}
WIDTH = 80
HEAD = """# The keys of a recipe

Made by `fipo keys --markdown` from the tables that validate a recipe; `fipo keys rollout` prints one of them.
A key that is *required* has no default; one that is *left out* may be. On the command line each key can be given
for once: `--rollout.groups 32`.
"""


def keys_text(section: str | None, of: str | None) -> str:
    """The keys of a table, a key, or everything of the recipes of one command (by default those of `train`).

    Raises UserError for a section that no recipe has, with the nearest one there is.
    """
    kinds = [of] if of else list(RECIPES)
    if section is None:
        return "\n\n".join(map(_shown, _once(sections_of(RECIPES[kinds[0]]))))
    known: list[str] = []
    for kind in kinds:
        sections = list(dict.fromkeys(sections_of(RECIPES[kind])))
        if found := _found(section, sections):
            return "\n\n".join(map(_shown, found))
        known += _names(sections)
    near = difflib.get_close_matches(section, sorted(set(known)), n=1)
    hint = f"did you mean {near[0]}?" if near else "fipo keys prints all"
    raise UserError(f"no key or table of a recipe is called {section!r} ({hint})")


def markdown() -> str:
    """The page with all of them."""
    pages = [
        f"## Recipes of `fipo {kind}`\n\n" + "\n\n".join(map(_table, _once(sections_of(model)))) + "\n"
        for kind, model in RECIPES.items()
    ]
    return "\n".join([HEAD, *pages])


def _once(sections: Iterable[Section]) -> Iterator[Section]:
    """Without a table whose keys are those of an earlier one: that has the names of both."""
    alike: dict[tuple[str, tuple[Key, ...]], list[Section]] = {}
    for section in sections:
        alike.setdefault((section.only_with, section.keys), []).append(section)
    for first, *others in alike.values():
        yield replace(first, name="] and [".join(dict.fromkeys([first.name, *(other.name for other in others)])))


def _names(sections: Sequence[Section]) -> list[str]:
    return [section.name for section in sections] + [
        f"{section.name}.{key.name}".lstrip(".") for section in sections for key in section.keys
    ]


def _found(wanted: str, sections: Sequence[Section]) -> list[Section]:
    """The tables of that name and those inside them, or the one key that has it."""
    inside = [each for each in sections if each.name == wanted or each.name.startswith(f"{wanted}.")]
    if inside:
        return inside
    table, _, name = wanted.rpartition(".")
    return [
        Section(name=each.name, only_with=each.only_with, meaning="", keys=(key,))
        for each in sections
        if each.name == table
        for key in each.keys
        if key.name == name
    ]


def _shown(section: Section) -> str:
    lines = [section.title + (f"  {section.meaning}" if section.meaning else "")]
    for key in section.keys:
        lines.append(f"  {key.name}: {key.kind}; {_default(key)}")
        lines += textwrap.wrap(key.meaning, WIDTH, initial_indent="      ", subsequent_indent="      ")
    return "\n".join(lines)


def _default(key: Key) -> str:
    return key.default if key.default in ("required", "left out") else f"default {key.default}"


def _table(section: Section) -> str:
    rows = [
        f"| `{key.name}` | {_cell(key.kind)} | {key.default if key.default == 'required' else _cell(key.default)} "
        f"| {_cell(key.meaning)} |"
        for key in section.keys
    ]
    head = "### " + section.title.replace("[", "`[").replace("]", "]`")
    said = [section.meaning, ""] if section.meaning else []
    return "\n".join([head, "", *said, "| key | type | default | meaning |", "|---|---|---|---|", *rows])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
