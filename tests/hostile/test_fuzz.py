"""The fuzz of recipes, shortened; `python -m tests.hostile --help` runs it at length."""

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from tests.hostile.fuzz import fuzz
from tests.hostile.recipes import kinds

from fipo.recipe.table import Table


def check(folder: Path, count: int, seed: int) -> None:
    outcomes, amiss = fuzz(folder, count=count, seed=seed)
    assert amiss == []
    for command in ("train", "doctor", "eval", "study", "launch"):
        assert outcomes[f"{command} refused"] > 0 and outcomes[f"{command} valid"] > 0


def test_a_few_hundred_hostile_recipes_are_valid_or_one_line_and_write_nothing(tmp_path: Path) -> None:
    check(tmp_path, count=500, seed=1)


@pytest.mark.slow
def test_two_thousand_hostile_recipes_are_valid_or_one_line_and_write_nothing(tmp_path: Path) -> None:
    check(tmp_path, count=2000, seed=2)


def fields(annotation: Any) -> Iterator[tuple[type[Table], str]]:
    """Every key of every table in it."""
    if get_origin(annotation) in (Union, UnionType, Annotated, list, dict):
        for one in get_args(annotation):
            yield from fields(one)
    elif isinstance(annotation, type) and issubclass(annotation, Table):
        for name, field in annotation.model_fields.items():
            yield annotation, name
            yield from fields(field.annotation)


def test_the_fuzz_comes_to_every_key_of_every_kind_of_recipe() -> None:
    reached = {(kind.table, key[-1]) for kind in kinds() for key in kind.keys}
    missing = {
        (table.__name__, name)
        for table in {kind.table for kind in kinds()}
        for _, name in fields(table)
        if (table, name) not in reached
    }
    assert missing == set()
