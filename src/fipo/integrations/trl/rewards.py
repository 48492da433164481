"""Reward functions for TRL: our graders, and DAPO's overlong penalty."""

import atexit
import functools
import json
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any, get_args

from trl.rewards import get_soft_overlong_punishment

from fipo.data.problem import Problem
from fipo.grading.grade import Grade, Outcome
from fipo.grading.registry import resolve
from fipo.grading.workers.pool import GraderPool

Completion = str | list[dict[str, Any]]  # text, or the messages that a chat model added
NO_COLUMNS = ("completion_ids", "environments")  # lists that TRL adds to the dataset's columns

log = logging.getLogger(__name__)


class GraderReward:
    """A reward function as TRL calls it: +1 for a correct answer, 0 where the grader failed, -1 otherwise."""

    def __init__(self, grader: str, answer_column: str, **limits: float) -> None:
        self.__name__ = f"{grader.rpartition(':')[2]}_accuracy"  # TRL's logs and accuracy_reward name it so
        self._grader = grader
        self._answer_column = answer_column
        self._limits = limits
        resolve(grader)
        self.pool()

    def pool(self) -> GraderPool:
        """This process's workers; none has started before the first answers."""
        return _pool(os.getpid(), self._grader, **self._limits)

    def __call__(
        self,
        prompts: list[Any],
        completions: list[Completion],
        log_metric: Callable[[str, float], None] = lambda name, value: None,
        **columns: Any,
    ) -> list[float]:
        rows = {name: each for name, each in columns.items() if isinstance(each, list) and name not in NO_COLUMNS}
        if self._answer_column not in rows:
            raise ValueError(
                f"the dataset must have the column {self._answer_column!r}, got {', '.join(sorted(rows)) or 'no other'}"
            )
        answers = []
        for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            answer = str(rows[self._answer_column][i])
            metadata = _json({name: values[i] for name, values in rows.items()})
            problem = Problem(id=str(i), prompt=_json(prompt), answer=answer, source="trl", metadata=metadata)
            answers.append((_text(completion), problem))
        grades = self.pool().grade(answers)
        for outcome in get_args(Outcome):
            log_metric(f"grade/{outcome}", sum(grade.outcome == outcome for grade in grades) / len(grades))
        _warn_of_failures(grades)
        return [1.0 if grade.correct else 0.0 if grade.failed else -1.0 for grade in grades]


def grader_reward(
    grader: str,
    *,
    answer_column: str = "answer",
    workers: int = 2,
    deadline_seconds: float = 10.0,
    memory_mib: int = 2048,
) -> GraderReward:
    """+1 for a correct answer, -1 otherwise, 0 where the grader failed, by the grader of that name.

    grader: one of ours ("number", "math", "dapo", ...) or "module:function". The right answers come from the
    dataset's `answer_column`; its other columns are the problem's metadata.
    Every process grades in `workers` processes of its own, which start with the first answers. An answer that takes
    longer than `deadline_seconds`, or more than `memory_mib` beyond what a worker has when it starts, costs that
    answer alone: the grader failed. TRL logs the shares of the outcomes as grade/correct, grade/timeout, ...
    Raises UserError for a grader that cannot be had, ValueError for a limit that is not > 0 and, when it is called,
    for a dataset without the column.
    """
    return GraderReward(
        grader, answer_column, workers=workers, deadline_seconds=deadline_seconds, memory_mib=memory_mib
    )


def overlong_penalty(max_completion_length: int, *, buffer: int) -> Callable[..., list[float]]:
    """0 up to `max_completion_length - buffer` tokens, then linear to -1 (DAPO, arXiv 2503.14476, Eq. 13): TRL's own.

    Dynamic sampling judges the accuracy alone, so this comes after it in `reward_funcs`.
    """
    if not 0 <= buffer <= max_completion_length:
        raise ValueError(f"buffer must be in [0, {max_completion_length}] tokens, got {buffer}")
    return get_soft_overlong_punishment(max_completion_length, buffer)


@functools.cache
def _pool(process: int, grader: str, **limits: Any) -> GraderPool:
    """One for each process: a fork must leave its parent's workers alone, also when it exits."""
    pool = GraderPool(grader, **limits)
    atexit.register(lambda: pool.close() if os.getpid() == process else None)
    return pool


def _warn_of_failures(grades: Sequence[Grade]) -> None:
    failed = [grade for grade in grades if grade.failed]
    if failed:
        first = failed[0]
        log.warning("%d of %d grades failed, the first: %s (%s)", len(failed), len(grades), first.outcome, first.reason)


def _text(completion: Completion) -> str:
    return completion if isinstance(completion, str) else "".join(str(part["content"]) for part in completion)


def _json(value: Any) -> Any:
    """A value as it reaches a worker: what JSON lacks (a date, an image) as text."""
    return json.loads(json.dumps(value, default=str))
