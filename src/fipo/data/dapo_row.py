"""A row of DAPO's published schema as a Problem: `prompt`, `reward_model.ground_truth`, `data_source`, `extra_info`."""

from typing import Any

from fipo.data.bad_rows import MalformedRow
from fipo.data.problem import Problem
from fipo.data.row_values import answer_text, check_text, index_of, prompt_of
from fipo.seeding import derive_seed


def to_problem(row: Any) -> Problem:
    """Raises MalformedRow with the rule and the value. Fields that are not in the schema are not looked at."""
    if not isinstance(row, dict):
        raise MalformedRow(f"a row must be an object, got {type(row).__name__}")
    prompt = prompt_of(row.get("prompt"), "prompt")
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
