"""Which of a run's recorded rollouts go into its report: whole groups, evenly over the steps, within a budget."""

import math
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fipo.errors import UserError
from fipo.telemetry.run_directory import RunDirectory, parse_line, whole_lines

MINI_BATCH = re.compile(rb'"mini_batch": ([0-9]+)')  # no text of a rollout holds this: its quotes are escaped
PER_TOKEN = ("log_ratio", "future_kl", "influence_weight")
NUMBERS = {float, int, type(None)}
INFINITE = {math.inf, -math.inf}
SECONDS_BETWEEN_LINES = 5.0

Record = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Sample:
    steps: dict[int, list[list[Record]]]  # groups of responses to one problem by step, both in the order of the run
    rollouts: int
    recorded_rollouts: int
    recorded_steps: int


def sample_rollouts(run: RunDirectory, budget: int) -> Sample:
    """At most `budget` bytes of the lines in rollouts/, an even share of it for each step.

    In a step the groups of the last mini-batch come first, then those of the one before, and so round. Steps are
    visited in an order that is spread over the run at every moment, so that groups larger than a step's share leave
    out steps evenly. Raises UserError for a line that is damaged or is not a rollout.
    """
    files = run.rollout_files()
    steps: dict[int, list[list[Record]]] = {}
    recorded = 0
    left = budget
    started = last = time.monotonic()
    for visited, step in enumerate(_spread(list(files))):
        path = files[step]
        lines = whole_lines(path)
        recorded += len(lines)
        chosen = _within(_groups(lines), share=left // (len(files) - visited), left=left)
        left -= sum(len(line) for group in chosen for _, line in group)
        if chosen:
            steps[step] = [[_record(path, number, line) for number, line in group] for group in chosen]
        if time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(
                f"{run.path}: reading rollouts, {visited + 1} of {len(files)} steps, {last - started:.0f} s",
                file=sys.stderr,
            )
    return Sample(
        steps=dict(sorted(steps.items())),
        rollouts=sum(len(group) for groups in steps.values() for group in groups),
        recorded_rollouts=recorded,
        recorded_steps=len(files),
    )


_Group = list[tuple[int, bytes]]  # numbered lines


def _groups(lines: list[bytes]) -> dict[int, list[_Group]]:
    """The responses to one problem in one mini-batch together, by mini-batch (-1 where it is not recorded).

    Told apart by how their lines begin, as every writer of ours puts the problem and the prompt before the response.
    """
    groups: dict[tuple[int, bytes], _Group] = {}
    for number, line in enumerate(lines, start=1):
        match = MINI_BATCH.search(line)
        key = (int(match[1]) if match else -1, line.partition(b'"response": ')[0])
        groups.setdefault(key, []).append((number, line))
    by_mini_batch: dict[int, list[_Group]] = {}
    for (mini_batch, _), group in groups.items():
        by_mini_batch.setdefault(mini_batch, []).append(group)
    return by_mini_batch


def _within(groups: dict[int, list[_Group]], *, share: int, left: int) -> list[_Group]:
    """Groups of at most `share` bytes together, or a single one of at most `left`; in the order of the file."""
    chosen: list[_Group] = []
    used = 0
    for group in _last_mini_batch_first(groups):
        size = sum(len(line) for _, line in group)
        if used + size > (share if chosen else left):
            break
        chosen.append(group)
        used += size
    return sorted(chosen)


def _last_mini_batch_first(groups: dict[int, list[_Group]]) -> Iterator[_Group]:
    descending = [groups[mini_batch] for mini_batch in sorted(groups, reverse=True)]
    for turn in range(max(map(len, descending), default=0)):
        yield from (of_one[turn] for of_one in descending if turn < len(of_one))


def _spread(steps: list[int]) -> list[int]:
    """The last step first, then each in the widest gaps: bit reversal (van der Corput)."""
    bits = max(1, (len(steps) - 1).bit_length())
    return [steps[-1 - i] for i in sorted(range(len(steps)), key=lambda i: f"{i:0{bits}b}"[::-1])]


def _record(path: Path, number: int, line: bytes) -> Record:
    record = parse_line(path, number, line)
    problem = _what_is_wrong(record)
    if problem:
        raise UserError(f"{path}, line {number}: not a rollout: {problem}")
    return record


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
    for name in PER_TOKEN:
        values = record.get(name, [])
        if not isinstance(values, list) or not set(map(type, values)) <= NUMBERS or not INFINITE.isdisjoint(values):
            return f"{name} must be a list of finite numbers, got {values!r:.80}"
        if len(values) not in (0, len(tokens)):
            return f"{name} must have one number for each of the {len(tokens)} tokens, or none, got {len(values)}"
    return None
