"""Values of a row as the texts that a problem is made of."""

import math
from decimal import Decimal
from typing import Any

from fipo.data.bad_rows import MalformedRow
from fipo.data.problem import Problem


def answer_text(value: Any, name: str) -> str:
    """The value of field `name`, a number as it would be written by hand: `1e22` is no answer of a response.

    Raises MalformedRow for one that is empty, not finite, or neither a text nor a number.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise MalformedRow(f"{name} must be a text or a number, got {value!r:.80}")
    if isinstance(value, str):
        if not value.strip():
            raise MalformedRow(f"{name} must not be empty")
        return value
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        raise MalformedRow(f"{name} must be finite, got {value}")
    return f"{Decimal(str(value)):f}"


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
