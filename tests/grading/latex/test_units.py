from fractions import Fraction

import pytest

from fipo.grading.latex.units import unit_of

UNITS = {
    "cm": ((("length", 1),), Fraction(1, 100)),
    "inches": ((("length", 1),), Fraction("0.0254")),
    "cm ^ 2": ((("length", 2),), Fraction(1, 10_000)),
    "square feet": ((("length", 2),), Fraction("0.3048") ** 2),
    "km / h": ((("length", 1), ("time", -1)), Fraction(1000, 3600)),
    "miles per hour": ((("length", 1), ("time", -1)), Fraction("1609.344") / 3600),
    "mph": ((("length", 1), ("time", -1)), Fraction("1609.344") / 3600),
    "cents": ((("money", 1),), Fraction(1, 100)),
}


@pytest.mark.parametrize(("words", "unit"), UNITS.items())
def test_a_known_unit_has_a_measure_and_a_size(words, unit):
    assert unit_of(words.split()) == unit


@pytest.mark.parametrize("words", ["apples", "", "cm of rope"])
def test_an_unknown_unit_is_none(words):
    assert unit_of(words.split()) is None
