"""A recorded response with the credit of its tokens: a line of `rollouts/step_NNNNNN.jsonl`.

The trainer writes these lines, verl's plugin and `collect` do, and the report and the doctor read them.
"""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Required, TypedDict

from fipo.errors import UserError
from fipo.telemetry.durable import replace_file
from fipo.telemetry.lines import parse_line, read_lines

PER_TOKEN = ("log_ratio", "future_kl", "influence_weight", "true_advantage")
NUMBERS = {float, int, type(None)}
INFINITE = {math.inf, -math.inf}
MINI_BATCH = re.compile(rb'"mini_batch": ([0-9]+)')  # no text of a rollout holds this: its quotes are escaped


class RolloutRecord(TypedDict, total=False):
    """What was sampled, what it was worth, and what each of its trained tokens got. Left out is what is not known.

    Lists over tokens have one entry for each of `tokens`, or are empty; a number that was not finite is None.
    The order of the keys is that of a line; `head_of` relies on it.
    """

    step: int
    problem: str  # its id
    prompt: str
    response: Required[str]
    tokens: list[str]  # the response, token by token
    truncated: bool
    expected: str  # the problem's answer
    answer: str | None  # what the grader read
    outcome: str  # of grading: correct, wrong, no_answer, timeout, crash
    reason: str | None  # of a grader that failed
    reward: float
    advantage: float | None
    mini_batch: int  # of the step, from 0: the one in which it was trained on
    left_out: str | None  # why nothing of it is in the loss; None if it is
    log_ratio: list[float | None]
    future_kl: list[float | None]
    influence_weight: list[float | None]
    true_advantage: list[float | None]  # of tasks whose credit is known (relay)
    marks: dict[str, list[int]]  # what happened to tokens, see fipo.objective.token_credit


KEYS = tuple(RolloutRecord.__annotations__)


def write_rollouts(path: Path, records: Iterable[RolloutRecord]) -> None:
    """One response per line, on disk when this returns."""
    replace_file(path, "".join(map(line_of, records)).encode(errors="backslashreplace"))  # "\ud800" is JSON too


def line_of(record: RolloutRecord) -> str:
    known = {key: value for key in KEYS if (value := record.get(key, record)) is not record}
    return json.dumps(known | record, ensure_ascii=False) + "\n"


def read_rollouts(path: Path) -> list[RolloutRecord]:
    """Raises UserError naming the line that is damaged or no rollout."""
    return [_checked(path, number, line) for number, line in enumerate(read_lines(path), start=1)]


@dataclass(frozen=True, kw_only=True)
class RolloutLine:
    """A line that was not parsed: what a reader needs to choose among many megabytes of them."""

    path: Path
    number: int
    text: bytes

    @property
    def mini_batch(self) -> int:
        """-1 where it is not recorded."""
        match = MINI_BATCH.search(self.text)
        return int(match[1]) if match else -1

    @property
    def head(self) -> bytes:
        """What stands before the response: the same for the responses to one problem in one step."""
        return self.text.partition(b'"response": ')[0]

    def read(self) -> RolloutRecord:
        """Raises UserError if it is damaged or no rollout."""
        return _checked(self.path, self.number, parse_line(self.path, self.number, self.text))


def _checked(path: Path, number: int, record: Any) -> RolloutRecord:
    problem = _what_is_wrong(record)
    if problem:
        raise UserError(f"{path}, line {number}: not a rollout: {problem}")
    known: RolloutRecord = record
    return known


def _what_is_wrong(record: Any) -> str | None:
    if not isinstance(record, dict):
        return f"must be a JSON object, got {record!r:.80}"
    if not isinstance(record.get("response"), str):
        return f"response must be text, got {record.get('response')!r:.80}"
    for name in ("problem", "prompt"):
        if not isinstance(record.get(name, ""), str):
            return f"{name} must be text, got {record[name]!r:.80}"
    tokens = record.get("tokens", [])
    if not isinstance(tokens, list) or not set(map(type, tokens)) <= {str}:
        return f"tokens must be a list of texts, got {tokens!r:.80}"
    return next(filter(None, (_what_is_wrong_with(record.get(name, []), name, tokens) for name in PER_TOKEN)), None)


def _what_is_wrong_with(values: Any, name: str, tokens: Sequence[str]) -> str | None:
    if not isinstance(values, list) or not set(map(type, values)) <= NUMBERS or not INFINITE.isdisjoint(values):
        return f"{name} must be a list of finite numbers, got {values!r:.80}"
    if len(values) not in (0, len(tokens)):
        return f"{name} must have one number for each of the {len(tokens)} tokens, or none, got {len(values)}"
    return None
