from typing import Annotated, Literal

import pytest
from pydantic import Field, PositiveInt, ValidationError, model_validator

from fipo.errors import UserError
from fipo.recipe.table import Table, validate


class Sums(Table):
    source: Literal["sums"]
    count: PositiveInt


class Rows(Table):
    source: Literal["rows"]
    path: str


class Data(Table):
    train: Annotated[Sums | Rows, Field(discriminator="source")]
    shuffle: bool = True


class Update(Table):
    rate: float
    bounds: Annotated[tuple[float, float], Field(strict=False)] | None = None
    device: Literal["cpu", "cuda"] = "cpu"

    @model_validator(mode="after")
    def _ordered(self):
        if self.bounds and self.bounds[0] > self.bounds[1]:
            raise ValueError(f"bounds must be ordered, got {self.bounds}")
        return self


class Whole(Table):
    data: Data
    update: Update
    steps: PositiveInt = 1

    @model_validator(mode="after")
    def _combination(self):
        if self.steps == 13:
            raise ValueError("steps must not be 13, got 13")
        return self


GOOD = {"data": {"train": {"source": "sums", "count": 3}}, "update": {"rate": 0.5}}


def merged(below, above):
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {**below, **{key: merged(below.get(key), value) for key, value in above.items()}}


def refusal(values):
    with pytest.raises(UserError) as error:
        validate(Whole, values, "recipe.toml")
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith("recipe.toml: ")
    return message.removeprefix("recipe.toml: ")


def test_good_values_become_the_tables_with_their_defaults():
    whole = validate(Whole, merged(GOOD, {"update": {"bounds": [1, 2]}}), "recipe.toml")
    assert whole.data.train == Sums(source="sums", count=3)
    assert whole.update.bounds == (1.0, 2.0)
    assert (whole.steps, whole.data.shuffle, whole.update.device) == (1, True, "cpu")


def test_a_table_does_not_change_once_made():
    with pytest.raises(ValidationError):
        validate(Whole, GOOD, "recipe.toml").steps = 3


MISTAKES = [
    ({"stepps": 3}, "unknown key stepps (did you mean steps?)"),
    ({"zzz": 3}, "unknown key zzz"),
    ({"update": {"device_": "cpu"}}, "unknown key update.device_ (did you mean device?)"),
    ({"data": {"shufle": False}}, "unknown key data.shufle (did you mean shuffle?)"),
    ({"data": {"train": {"cont": 3}}}, "unknown key data.train.cont (did you mean count?)"),
    ({"data": {"train": {"zzz": 3}}}, "unknown key data.train.zzz"),
    ({"data": {"train": {"source": "row"}}}, "data.train.source must be one of 'sums', 'rows', got 'row'"),
    ({"data": {"train": {"source": "rows"}}}, "data.train.path is missing"),
    ({"data": {"train": {"count": 0}}}, "data.train.count: must be greater than 0, got 0"),
    ({"data": {"train": {"count": "3"}}}, "data.train.count: must be a valid integer, got '3'"),
    ({"data": {"train": 3}}, "data.train must be a table, got 3"),
    ({"update": 3}, "update must be a table, got 3"),
    ({"update": []}, "update must be a table, got []"),
    ({"update": {"rate": "0.5"}}, "update.rate: must be a valid number, got '0.5'"),
    ({"update": {"rate": True}}, "update.rate: must be a valid number, got True"),
    ({"update": {"device": "gpu"}}, "update.device: must be 'cpu' or 'cuda', got 'gpu'"),
    ({"update": {"bounds": [2, 1]}}, "update: bounds must be ordered, got (2.0, 1.0)"),
    ({"update": {"bounds": [1, "x"]}}, "update.bounds.1: must be a valid number, got 'x'"),
    ({"data": {"shuffle": 1}}, "data.shuffle: must be a valid boolean, got 1"),
    ({"steps": 3.0}, "steps: must be a valid integer, got 3.0"),
    ({"steps": True}, "steps: must be a valid integer, got True"),
    ({"steps": -3}, "steps: must be greater than 0, got -3"),
    ({"steps": 13}, "steps must not be 13, got 13"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES, ids=[message for _, message in MISTAKES])
def test_a_mistake_is_one_line_with_the_key_the_rule_and_the_value(change, message):
    assert refusal(merged(GOOD, change)) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "data and update are missing"),
        ({"data": {}, "update": {}}, "data.train and update.rate are missing"),
        ({"data": GOOD["data"]}, "update is missing"),
        ({"data": GOOD["data"], "update": {}}, "update.rate is missing"),
        ({"data": {"train": {"count": 3}}, "update": {"rate": 0.5}}, "data.train.source is missing"),
        ({"data": {}, "update": {"rate": 0.5}}, "data.train is missing"),
    ],
)
def test_what_is_missing_is_named(values, message):
    assert refusal(values) == message


def test_of_several_mistakes_one_is_told():
    assert refusal({"data": 3, "update": 4, "x": 5}) == "data must be a table, got 3"


@pytest.mark.parametrize("key", ["[x", "<x>", '[\n"/}'])
def test_a_key_that_looks_like_one_of_pydantics_own_words_is_unknown_like_any_other(key):
    class Small(Table):
        size: int = 1

    with pytest.raises(UserError) as error:
        validate(Small, {key: 1}, "here")
    assert str(error.value) == f"here: unknown key {key}"
