"""The keys of a recipe, described from the tables that validate them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from inspect import cleandoc
from typing import Any, get_origin

from pydantic.fields import FieldInfo

from fipo.recipe.table import Table, tables_in

BOUNDS = {"exclusiveMinimum": ">", "minimum": ">=", "exclusiveMaximum": "<", "maximum": "<="}
PLAIN = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true or false", "object": "table"}


@dataclass(frozen=True, kw_only=True)
class Key:
    """One key of a table, as it is told to a user."""

    name: str
    kind: str  # "whole number > 0"
    default: str  # as it would be written in a recipe; "required" and "left out" are what they say
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Section:
    """A table with its keys."""

    name: str  # "rollout", "data.train"
    only_with: str  # `source = "file"` where the table is one of several kinds, else ""
    meaning: str
    keys: tuple[Key, ...]

    @property
    def title(self) -> str:
        return (f"[{self.name}]" if self.name else "at the top") + (f" with {self.only_with}" if self.only_with else "")


def sections_of(model: type[Table], name: str = "") -> Iterator[Section]:
    """Every table of a recipe, in the order of the recipe, with those inside it after it."""
    schema = model.model_json_schema()
    properties, shared = schema["properties"], schema.get("$defs", {})
    keys, inner = [], []
    for field, info in model.model_fields.items():
        tables = tables_in(info.annotation)
        path = f"{name}.{field}" if name else field
        if get_origin(info.annotation) is dict and tables:
            path += ".NAME"
        inner += [(path, table) for table in tables]
        if not tables:
            keys.append(_key(field, info, properties[field], shared))
        elif not info.is_required() and name:
            keys.append(Key(name=field, kind="table", default=_default(info), meaning=_line(info.description)))
    if keys:
        only_with = next((f"{key.name} = {key.kind}" for key in keys if key.name == "source"), "")
        meaning = _line(model.__doc__ if name else None)
        yield Section(name=name, only_with=only_with, meaning=meaning, keys=tuple(keys))
    for path, table in inner:
        yield from sections_of(table, path)


def _key(name: str, info: FieldInfo, said: Mapping[str, Any], shared: Mapping[str, Any]) -> Key:
    return Key(name=name, kind=_kind(said, shared), default=_default(info), meaning=_line(info.description))


def _kind(said: Mapping[str, Any], shared: Mapping[str, Any]) -> str:
    """The type that a JSON schema asks for, in a few words."""
    if "$ref" in said:
        return _kind(shared[said["$ref"].rpartition("/")[2]], shared)
    if "anyOf" in said:
        return " or ".join(dict.fromkeys(_kind(each, shared) for each in said["anyOf"] if each.get("type") != "null"))
    if "const" in said:
        return _written(said["const"])
    if "enum" in said:
        return " or ".join(map(_written, said["enum"]))
    if said.get("type") == "array":
        if "prefixItems" in said:
            return f"list of {len(said['prefixItems'])} {_several(_kind(said['prefixItems'][0], shared))}"
        return f"list of {_several(_kind(said.get('items', {}), shared))}"
    bounds = " and ".join(f"{sign} {said[name]:g}" for name, sign in BOUNDS.items() if name in said)
    return f"{PLAIN.get(said.get('type', ''), 'value')} {bounds}".rstrip()


def _several(kind: str) -> str:
    """`numbers` of a number; what is a choice stays as it is."""
    return f"{kind}s" if kind in ("number", "whole number", "text", "table") else kind


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    if info.default_factory is not None:
        made = info.get_default(call_default_factory=True, validated_data={})
        return _written(made) if isinstance(made, list | dict) else "the machine's"
    return "left out" if info.default is None or isinstance(info.default, Table) else _written(info.default)


def _written(value: Any) -> str:
    """As in TOML."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return f'"{value}"'
        case float():
            return repr(value).replace("e-0", "e-")
        case list() | tuple():
            return f"[{', '.join(map(_written, value))}]"
        case dict():
            return (
                "{ " + ", ".join(f"{key} = {_written(each)}" for key, each in value.items()) + " }" if value else "{}"
            )
        case _:
            return str(value)


def _line(text: str | None) -> str:
    return " ".join(cleandoc(text or "").split())
