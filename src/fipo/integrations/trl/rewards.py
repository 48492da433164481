"""Reward functions for TRL: our graders, and DAPO's overlong penalty."""

from collections.abc import Callable
from typing import Any

from trl.rewards import get_soft_overlong_punishment

from fipo.data.problem import Problem
from fipo.data.row_values import json_value
from fipo.grading.grade import Grade
from fipo.grading.outcomes import grade_metrics, reward_of
from fipo.grading.registry import resolve
from fipo.grading.workers.pool import GraderPool
from fipo.integrations.shared import FailurePolicy, graded, grader_pool, right_answer

Completion = str | list[dict[str, Any]]  # text, or the messages that a chat model added
NO_COLUMNS = ("completion_ids", "environments")  # lists that TRL adds to the dataset's columns


class GraderReward:
    """A reward function as TRL calls it: +1 for a correct answer, 0 where the grader failed, -1 otherwise.

    None, which drops the group, in place of the 0 under `on_failure="drop_group"`.
    """

    def __init__(self, grader: str, answer_column: str, failures: FailurePolicy, **limits: float) -> None:
        self.__name__ = f"{grader.rpartition(':')[2]}_accuracy"  # TRL's logs and accuracy_reward name it so
        self._grader = grader
        self._answer_column = answer_column
        self.failures = failures
        self.failed = 0  # grades, in this process
        self._limits = limits
        resolve(grader)
        self.pool()

    def pool(self) -> GraderPool:
        """This process's workers; none has started before the first answers."""
        return grader_pool(self._grader, **self._limits)

    def __call__(
        self,
        prompts: list[Any],
        completions: list[Completion],
        log_metric: Callable[[str, float], None] = lambda name, value: None,
        **columns: Any,
    ) -> list[float | None]:
        rows = {name: each for name, each in columns.items() if isinstance(each, list) and name not in NO_COLUMNS}
        if self._answer_column not in rows:
            raise ValueError(
                f"the dataset must have the column {self._answer_column!r}, got {', '.join(sorted(rows)) or 'no other'}"
            )
        answers: list[tuple[str, Problem | Grade]] = []
        for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            right = right_answer(rows[self._answer_column][i], self._answer_column)
            if isinstance(right, str):
                metadata = json_value({name: values[i] for name, values in rows.items()})
                problem = Problem(id=str(i), prompt=json_value(prompt), answer=right, source="trl", metadata=metadata)
            answers.append((_text(completion), problem if isinstance(right, str) else right))
        grades = graded(self.pool(), answers)
        metrics = grade_metrics(grades)
        failed = int(metrics.pop("grade/failed"))  # a count, which FIPOTrainer adds up over its processes
        for name, share in metrics.items():
            log_metric(name, share)
        self.failed += failed
        self.failures.count(failed)
        return [None if grade.failed and self.failures.drops_groups else reward_of(grade) for grade in grades]


def grader_reward(
    grader: str,
    *,
    answer_column: str = "answer",
    workers: int = 2,
    deadline_seconds: float = 10.0,
    memory_mib: int = 2048,
    on_failure: str = "zero",
    max_failures: int | None = None,
) -> GraderReward:
    """+1 for a correct answer, -1 otherwise, 0 where the grader failed, by the grader of that name.

    grader: one of ours ("number", "math", "dapo", ...) or "module:function". The right answers come from the
    dataset's `answer_column`; its other columns are the problem's metadata.
    Every process grades in `workers` processes of its own, which start with the first answers. An answer that takes
    longer than `deadline_seconds`, or more than `memory_mib` beyond what a worker has when it starts, costs that
    answer alone: the grader failed. TRL logs the shares of the outcomes as grade/correct, grade/timeout, ...
    on_failure, max_failures: as in our own trainer's [grading] table: a reward of 0, or "drop_group", a group that is
    not trained on; more failures than this in one process raise RuntimeError.
    Raises UserError for a grader that cannot be had, ValueError for a limit that is not > 0 and, when it is called,
    for a dataset without the column.

    >>> reward = grader_reward("number", workers=1)
    >>> reward(prompts=["1+2=", "2+2="], completions=["It is 3.", "5"], answer=["3", "4"])
    [1.0, -1.0]
    """
    return GraderReward(
        grader,
        answer_column,
        FailurePolicy(on_failure, max_failures),
        workers=workers,
        deadline_seconds=deadline_seconds,
        memory_mib=memory_mib,
    )


def overlong_penalty(max_completion_length: int, *, buffer: int) -> Callable[..., list[float]]:
    """0 up to `max_completion_length - buffer` tokens, then linear to -1 (DAPO, arXiv 2503.14476, Eq. 13): TRL's own.

    Dynamic sampling judges the accuracy alone, so this comes after it in `reward_funcs`.

    >>> overlong_penalty(100, buffer=20)(completion_ids=[[7] * 80, [7] * 90])
    [0.0, -0.5]
    """
    if not 0 <= buffer <= max_completion_length:
        raise ValueError(f"buffer must be in [0, {max_completion_length}] tokens, got {buffer}")
    return get_soft_overlong_punishment(max_completion_length, buffer)


def _text(completion: Completion) -> str:
    return completion if isinstance(completion, str) else "".join(str(part["content"]) for part in completion)
