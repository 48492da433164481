"""A row of DAPO's published schema as a Problem: `prompt`, `reward_model.ground_truth`, `data_source`, `extra_info`."""

import math
from decimal import Decimal
from typing import Any

from fipo.seeding import derive_seed
from fipo.tasks.bad_rows import MalformedRow
from fipo.tasks.problem import Problem

COLUMNS = ("prompt", "reward_model", "data_source", "extra_info")


def to_problem(row: Any) -> Problem:
    """Raises MalformedRow with the rule and the value. Fields that are not in the schema are not looked at."""
    if not isinstance(row, dict):
        raise MalformedRow(f"a row must be an object, got {type(row).__name__}")
    prompt = _prompt(row.get("prompt"))
    answer = _answer(_inside(row, "reward_model").get("ground_truth"))
    source = row.get("data_source")
    if not isinstance(source, str | None):
        raise MalformedRow(f"data_source must be a text, got {source!r:.80}")
    source = source or "unnamed"
    index = _inside(row, "extra_info").get("index")
    if not isinstance(index, str | int | None) or isinstance(index, bool):
        raise MalformedRow(f"extra_info.index must be a text or a whole number, got {index!r:.80}")
    problem = Problem(id=f"{source}/{index}", prompt=prompt, answer=answer, source=source)
    _check_text(problem)
    if index is not None:
        return problem
    return Problem(id=f"{source}/{derive_seed(0, problem.text):016x}", prompt=prompt, answer=answer, source=source)


def _inside(row: dict[str, Any], name: str) -> dict[str, Any]:
    """The object of that name, empty if there is none."""
    value = row.get(name)
    if not isinstance(value, dict | None):
        raise MalformedRow(f"{name} must be an object, got {value!r:.80}")
    return value or {}


def _prompt(value: Any) -> str | list[dict[str, str]]:
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise MalformedRow(f"prompt must be a text or a list of messages, got {value!r:.80}")
    for message in value:
        parts = [message.get("role"), message.get("content")] if isinstance(message, dict) else [None]
        if not all(isinstance(part, str) for part in parts):
            raise MalformedRow(f"each message of prompt must have a role and a content, got {value!r:.80}")
    return [{"role": message["role"], "content": message["content"]} for message in value]


def _answer(value: Any) -> str:
    """A number as it would be written by hand: `1e22` is no answer that a response would give."""
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise MalformedRow(f"reward_model.ground_truth must be a text or a number, got {value!r:.80}")
    if isinstance(value, str):
        if not value.strip():
            raise MalformedRow("reward_model.ground_truth must not be empty")
        return value
    if isinstance(value, int):
        return str(value)
    if not math.isfinite(value):
        raise MalformedRow(f"reward_model.ground_truth must be finite, got {value}")
    return f"{Decimal(str(value)):f}"


def _check_text(problem: Problem) -> None:
    if not problem.text.strip():
        raise MalformedRow("prompt must not be empty")
    roles = [m["role"] for m in problem.prompt] if isinstance(problem.prompt, list) else []
    for text in (problem.id, problem.text, problem.answer, *roles):
        try:
            text.encode()
        except UnicodeEncodeError as error:  # "\ud800" is JSON, but no tokenizer or file takes it
            found = text[error.start]
            raise MalformedRow(f"text must have a UTF-8 form, got the lone surrogate {found!r}") from None
