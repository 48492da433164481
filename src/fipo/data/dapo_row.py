"""A row of DAPO's published schema as a Problem: `prompt`, `reward_model.ground_truth`, `data_source`, `extra_info`."""

from typing import Any

from fipo.data.bad_rows import MalformedRow
from fipo.data.problem import Problem
from fipo.data.row_values import answer_text, check_text, index_of
from fipo.seeding import derive_seed


def to_problem(row: Any) -> Problem:
    """Raises MalformedRow with the rule and the value. Fields that are not in the schema are not looked at."""
    if not isinstance(row, dict):
        raise MalformedRow(f"a row must be an object, got {type(row).__name__}")
    prompt = _prompt(row.get("prompt"))
    answer = answer_text(_inside(row, "reward_model").get("ground_truth"), "reward_model.ground_truth")
    source = row.get("data_source")
    if not isinstance(source, str | None):
        raise MalformedRow(f"data_source must be a text, got {source!r:.80}")
    source = source or "unnamed"
    index = index_of(_inside(row, "extra_info").get("index"), "extra_info.index")
    problem = Problem(id=f"{source}/{index}", prompt=prompt, answer=answer, source=source)
    check_text(problem)
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
