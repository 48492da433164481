"""The base of every table of a recipe: unknown keys and wrong types are refused, in one line each."""

import difflib
from collections.abc import Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from fipo.errors import UserError


class Table(BaseModel):
    """One `[table]` of a TOML recipe. A docstring under a field is its documentation."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


TableType = TypeVar("TableType", bound=Table)


def validate(model: type[TableType], values: dict[str, Any], where: str) -> TableType:
    """`values` as a `model`.

    Raises UserError with one line: `where`, the key, the rule and the value of the first mistake.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        mistake = error.errors()[0]
        raise UserError(f"{where}: {describe(mistake, model)}") from None


def describe(mistake: ErrorDetails, model: type[Table]) -> str:
    """`rollout.group_size: Input should be greater than 0, got -1`."""
    path = [str(part) for part in mistake["loc"]]
    key = ".".join(path)
    match mistake["type"]:
        case "extra_forbidden":
            return f"unknown key {key}{_did_you_mean(path[-1], _known_keys(model, path[:-1]))}"
        case "missing":
            return f"{key} is missing"
        case "value_error":
            rule = str(mistake["ctx"]["error"])
            return f"{key}: {rule}" if key else rule
        case _:
            rule = mistake["msg"].replace("Input should be", "must be")
            return f"{key}: {rule}, got {mistake['input']!r}"


def _did_you_mean(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, list(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _known_keys(model: type[Table], path: list[str]) -> list[str]:
    """The field names of the table at `path`, or none where the path passes through a choice of tables."""
    current: Any = model
    for part in path:
        field = current.model_fields.get(part)
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, Table)):
            return []
        current = field.annotation
    return list(current.model_fields)
