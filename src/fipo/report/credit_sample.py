"""Which of a run's recorded rollouts go into its report: whole groups, evenly over the steps, within a budget."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from fipo.telemetry.lines import whole_lines
from fipo.telemetry.rollouts import RolloutLine, RolloutRecord
from fipo.telemetry.run_directory import RunDirectory

SECONDS_BETWEEN_LINES = 5.0


@dataclass(frozen=True, kw_only=True)
class Sample:
    steps: dict[int, list[list[RolloutRecord]]]  # by step: groups of responses to one problem, in the run's order
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
    steps: dict[int, list[list[RolloutRecord]]] = {}
    recorded = 0
    left = budget
    started = last = time.monotonic()
    for visited, step in enumerate(_spread(list(files))):
        path = files[step]
        lines = [RolloutLine(path=path, number=n, text=text) for n, text in enumerate(whole_lines(path), start=1)]
        recorded += len(lines)
        chosen = _within(_groups(lines), share=left // (len(files) - visited), left=left)
        left -= sum(len(line.text) for group in chosen for line in group)
        if chosen:
            steps[step] = [[line.read() for line in group] for group in chosen]
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


def first_rollout(run: RunDirectory) -> RolloutRecord | None:
    """The first one of the first step that recorded any. Raises UserError for a line that is damaged."""
    for _, path in sorted(run.rollout_files().items()):
        with path.open("rb") as file:
            if (line := file.readline()).endswith(b"\n"):
                return RolloutLine(path=path, number=1, text=line).read()
    return None


_Group = list[RolloutLine]


def _groups(lines: list[RolloutLine]) -> dict[int, list[_Group]]:
    """The responses to one problem in one mini-batch together, by mini-batch (-1 where it is not recorded)."""
    groups: dict[tuple[int, bytes], _Group] = {}
    for line in lines:
        groups.setdefault((line.mini_batch, line.head), []).append(line)
    by_mini_batch: dict[int, list[_Group]] = {}
    for (mini_batch, _), group in groups.items():
        by_mini_batch.setdefault(mini_batch, []).append(group)
    return by_mini_batch


def _within(groups: dict[int, list[_Group]], *, share: int, left: int) -> list[_Group]:
    """Groups of at most `share` bytes together, or a single one of at most `left`; in the order of the file."""
    chosen: list[_Group] = []
    used = 0
    for group in _last_mini_batch_first(groups):
        size = sum(len(line.text) for line in group)
        if used + size > (share if chosen else left):
            break
        chosen.append(group)
        used += size
    return sorted(chosen, key=lambda group: group[0].number)


def _last_mini_batch_first(groups: dict[int, list[_Group]]) -> Iterator[_Group]:
    descending = [groups[mini_batch] for mini_batch in sorted(groups, reverse=True)]
    for turn in range(max(map(len, descending), default=0)):
        yield from (of_one[turn] for of_one in descending if turn < len(of_one))


def _spread(steps: list[int]) -> list[int]:
    """The last step first, then each in the widest gaps: bit reversal (van der Corput)."""
    bits = max(1, (len(steps) - 1).bit_length())
    return [steps[-1 - i] for i in sorted(range(len(steps)), key=lambda i: f"{i:0{bits}b}"[::-1])]
