"""The base of every table of a recipe: unknown keys and wrong types are refused, in one line each."""

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from fipo.errors import UserError


class Table(BaseModel):
    """One `[table]` of a TOML recipe. A docstring under a field is its documentation."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


# Whole numbers. Beyond these bounds one is a slip of the finger: no run would come to its end, or fit into any memory.
AtOnce = Annotated[int, Field(gt=0, le=10**6)]  # of what is in memory together
InAll = Annotated[int, Field(gt=0, le=10**9)]  # of what comes one after the other
InAllOrNone = Annotated[int, Field(ge=0, le=10**9)]
Seed = Annotated[int, Field(ge=0)]  # as far as TOML's 64 bits go

PathText = Annotated[str, Field(pattern=r"^[^\x00]+$", max_length=4096)]

MISSING = " is missing"
ABSENT = ("missing", "union_tag_not_found")  # what pydantic calls it

TableType = TypeVar("TableType", bound=Table)


def validate(model: type[TableType], values: dict[str, Any], where: str) -> TableType:
    """`values` as a `model`.

    Raises UserError with one line: `where`, the key, the rule and the value of the first mistake, or all missing keys.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        mistakes = error.errors()
        first = _describe(mistakes[0], model, values)
        named = (_describe(one, model, values).removesuffix(MISSING) for one in mistakes if one["type"] in ABSENT)
        missing = list(dict.fromkeys(named))
        if first.endswith(MISSING) and len(missing) > 1:
            first = f"{', '.join(missing[:-1])} and {missing[-1]} are missing"
        raise UserError(f"{where}: {first}") from None


def _describe(mistake: ErrorDetails, model: type[Table], values: dict[str, Any]) -> str:
    """`rollout.group_size: must be greater than 0, got -1`."""
    found = mistake["loc"]  # with pydantic's own words between the user's; an unknown key at the end is the user's
    users = len(found) - 1 if mistake["type"] == "extra_forbidden" else None
    location = tuple(part for i, part in enumerate(found) if i == users or not str(part).startswith(("<", "[")))
    path = _written_path(location, values)
    key = ".".join(path)
    match mistake["type"]:
        case "extra_forbidden":
            return f"unknown key {key}{did_you_mean(path[-1], _known_keys(model, location[:-1]))}"
        case "missing":
            return f"{key}{MISSING}"
        case "value_error":
            rule = str(mistake["ctx"]["error"])
            return f"{key}: {rule}" if key else rule
        case "union_tag_not_found":
            return f"{key}.{mistake['ctx']['discriminator'].strip(chr(39))}{MISSING}"
        case "union_tag_invalid":
            choice = mistake["ctx"]
            name = choice["discriminator"].strip("'")
            return f"{key}.{name} must be one of {choice['expected_tags']}, got {choice['tag']!r:.80}"
        case "model_attributes_type" | "model_type" | "dict_type":
            return f"{key} must be a table, got {mistake['input']!r:.80}"
        case _:
            rule = re.sub(r"^\w+ should ", "must ", mistake["msg"])
            return f"{key}: {rule}, got {mistake['input']!r:.80}"


def _written_path(location: Sequence[str | int], values: dict[str, Any]) -> list[str]:
    """The key as the user wrote it: pydantic puts the chosen kind of a table into the path as well."""
    path: list[str] = []
    table: Any = values
    for part in location[:-1]:
        if isinstance(table, dict) and part not in table:
            continue
        path.append(str(part))
        table = table[part]
    inside = isinstance(table, dict | list) or not path
    return [*path, str(location[-1])] if location and inside else path


def did_you_mean(key: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(key, [name for name in known if name != key], n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _known_keys(model: type[Table], location: Sequence[str | int]) -> list[str]:
    """The field names of the table at `location`, through choices of tables too."""
    tables: list[Any] = [model]
    for part in location:
        tables = [
            choice
            for table in tables
            if part in table.model_fields
            for choice in tables_in(table.model_fields[str(part)].annotation)
        ] or tables
    return sorted({name for table in tables for name in table.model_fields})


def tables_in(annotation: Any) -> list[type[Table]]:
    """`Reward` gives [Reward]; `SignedSums | File` and `list[SignedSums | File]` give both."""
    if isinstance(annotation, type) and not get_args(annotation):
        return [annotation] if issubclass(annotation, Table) else []
    return [table for part in get_args(annotation) for table in tables_in(part)]
