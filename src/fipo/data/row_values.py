"""Values of a row as the texts that a problem is made of."""

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from fipo.data.bad_rows import MalformedRow
from fipo.data.problem import Problem

NO_VALUES = ("nan", "NaN", "<NA>", "NaT")  # what a missing value is as a text
MESSAGE_KEYS = {"role", "content", "from", "value"}


def answer_text(value: Any, name: str) -> str:
    """The right answer in field `name`, for a file's row as for what TRL and verl hand over.

    A number is as it would be written by hand: a whole one without a point, whatever its type (204.0, which a column
    with gaps makes of 204, is `204`), and none as `1e22`. Raises MalformedRow for one that is empty, not finite, or
    neither a text nor a number: None, a bool, a list.
    """
    if type(value).__module__ == "numpy" and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = float(str(value)) if value.dtype.kind == "f" else value.item()  # 0.1 of 32 bits is no 0.1 of 64
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise MalformedRow(f"{name} must be a text or a number, got {value!r:.80}")
    if isinstance(value, str):
        if not value.strip():
            raise MalformedRow(f"{name} must not be empty")
        if value.strip() in NO_VALUES:
            raise MalformedRow(f"{name} must be a text or a number, got {value!r}, which stands for none")
        return value
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        raise MalformedRow(f"{name} must be finite, got {value}")
    decimal = Decimal(str(value))
    return str(int(decimal)) if decimal == int(decimal) else f"{decimal:f}"


def prompt_of(value: Any, name: str) -> str | list[dict[str, str]]:
    """The prompt in field `name`: a text, or messages with role and content, which may come as JSON text.

    Raises MalformedRow for anything else.
    """
    messages = value
    if isinstance(value, str):
        messages = _from_json(value)
        if messages is None:
            return value
    if not isinstance(messages, list):
        raise MalformedRow(f"{name} must be a text or a list of messages, got {value!r:.80}")
    for message in messages:
        parts = [message.get("role"), message.get("content")] if isinstance(message, dict) else [None]
        if not all(isinstance(part, str) for part in parts):
            raise MalformedRow(f"each message of {name} must have a role and a content, got {value!r:.80}")
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _from_json(text: str) -> Any:
    """The messages that a text is, well or badly formed; None for a text that is none."""
    if not text.lstrip().startswith(("[", "{")):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    listed = value if isinstance(value, list) else [value]
    return value if listed and all(isinstance(one, dict) and MESSAGE_KEYS & one.keys() for one in listed) else None


def json_value(value: Any) -> Any:
    """A value as it reaches a grader: arrays as lists, anything else that JSON lacks as text."""
    if isinstance(value, Mapping):
        return {str(key): json_value(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(entry) for entry in value]
    if hasattr(value, "tolist"):
        return json_value(value.tolist())
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def index_of(value: Any, name: str) -> str | None:
    """What names a row in its dataset. Raises MalformedRow for what is neither a text nor a whole number."""
    if not isinstance(value, str | int | None) or isinstance(value, bool):
        raise MalformedRow(f"{name} must be a text or a whole number, got {value!r:.80}")
    return None if value is None else str(value)


def check_text(problem: Problem) -> None:
    """Raises MalformedRow for an empty prompt, and for text that no tokenizer or file takes."""
    if not problem.text.strip():
        raise MalformedRow("prompt must not be empty")
    roles = [m["role"] for m in problem.prompt] if isinstance(problem.prompt, list) else []
    for text in (problem.id, problem.text, problem.answer, *roles):
        try:
            text.encode()
        except UnicodeEncodeError as error:  # "\ud800" is JSON
            found = text[error.start]
            raise MalformedRow(f"text must have a UTF-8 form, got the lone surrogate {found!r}") from None
