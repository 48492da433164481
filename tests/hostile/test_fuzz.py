"""The fuzz of recipes, shortened; `python -m tests.hostile --help` runs it at length."""

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from tests.hostile.fuzz import cases, fuzz, good_ones
from tests.hostile.recipes import kinds

from fipo.recipe.table import Table


def check(folder: Path, count: int, seed: int) -> None:
    outcomes, amiss = fuzz(folder, cases(count, seed))
    assert amiss == []
    assert {f"{command} refused" for command in ("train", "doctor", "eval", "study", "launch")} <= outcomes.keys()
    assert sum(outcomes[outcome] for outcome in outcomes if outcome.endswith(" valid")) > count / 50


def test_two_hundred_hostile_recipes_are_valid_or_one_line_and_write_nothing(tmp_path: Path) -> None:
    check(tmp_path, count=200, seed=1)


@pytest.mark.slow
def test_two_thousand_hostile_recipes_are_valid_or_one_line_and_write_nothing(tmp_path: Path) -> None:
    check(tmp_path, count=2000, seed=2)


def test_the_recipes_that_the_fuzz_begins_with_are_valid(tmp_path: Path) -> None:
    outcomes, amiss = fuzz(tmp_path, good_ones())
    assert amiss == [] and {outcome.split()[1] for outcome in outcomes} == {"valid"}


def names(annotation: Any) -> Iterator[str]:
    """Every key of every table in it."""
    if get_origin(annotation) in (Union, UnionType, Annotated, list, dict):
        for one in get_args(annotation):
            yield from names(one)
    elif isinstance(annotation, type) and issubclass(annotation, Table):
        for name, field in annotation.model_fields.items():
            yield name
            yield from names(field.annotation)


def test_the_fuzz_comes_to_every_key_of_every_kind_of_recipe() -> None:
    every = kinds()
    reached = {name for kind in every for key in kind.keys for name in key}
    assert {name for kind in every for name in names(kind.table)} - reached == set()
