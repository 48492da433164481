from typing import Annotated, Literal

import pytest
from pydantic import Field, PositiveInt

from fipo.recipe.keys import Key, sections_of
from fipo.recipe.table import Table


class Inner(Table):
    """A table inside."""

    width: Annotated[float, Field(gt=0, le=1e3)] = 0.5


class File(Table):
    """Rows of a file."""

    source: Literal["file"]
    path: str | list[str]


class Made(Table):
    source: Literal["made"]


class Whole(Table):
    count: PositiveInt
    """How many."""
    kind: Literal["a", "b"] = "a"
    """Which
    of them."""
    quiet: bool = False
    limit: int | None = None
    pair: tuple[float, float] = (0.8, 1.2)
    names: list[str] = Field(default_factory=list)
    inner: Inner = Inner()
    data: Annotated[File | Made, Field(discriminator="source")]
    arms: dict[str, Inner]


def keys(name: str, only_with: str = "") -> tuple[Key, ...]:
    (found,) = (each for each in sections_of(Whole) if (each.name, each.only_with) == (name, only_with))
    return found.keys


@pytest.mark.parametrize(
    ("name", "kind", "default", "meaning"),
    [
        ("count", "whole number > 0", "required", "How many."),
        ("kind", '"a" or "b"', '"a"', "Which of them."),
        ("quiet", "true or false", "false", ""),
        ("limit", "whole number", "left out", ""),
        ("pair", "list of 2 numbers", "[0.8, 1.2]", ""),
        ("names", "list of texts", "[]", ""),
    ],
)
def test_a_key_has_its_type_default_and_meaning(name, kind, default, meaning):
    assert Key(name=name, kind=kind, default=default, meaning=meaning) in keys("")


def test_a_table_inside_is_a_section_of_its_own_with_its_meaning():
    (section,) = (each for each in sections_of(Whole) if each.name == "inner")
    assert section.meaning == "A table inside." and section.title == "[inner]"
    assert section.keys == (Key(name="width", kind="number > 0 and <= 1000", default="0.5", meaning=""),)


def test_each_kind_of_a_table_is_a_section():
    assert [key.kind for key in keys("data", 'source = "file"')] == ['"file"', "text or list of texts"]
    assert [key.name for key in keys("data", 'source = "made"')] == ["source"]


def test_tables_with_free_names_are_told_once():
    assert [each.title for each in sections_of(Whole)][-1] == "[arms.NAME]"
