"""What TRL and verl need of ours besides the objective: graded answers, and the sampler's log-probs compared.

A grade that failed is here what it is in our own trainer: `on_failure` and `max_failures` as in its `[grading]` table,
the metric `grade/failed`, the same words.
"""

import atexit
import functools
import logging
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fipo.data.bad_rows import MalformedRow
from fipo.data.problem import Problem
from fipo.data.row_values import answer_text
from fipo.grading.grade import Grade
from fipo.grading.outcomes import failure_line, too_many_failures
from fipo.grading.workers.pool import GraderPool
from fipo.objective import Max, Mean, Metric, fused

ON_FAILURE = ("zero", "drop_group")

log = logging.getLogger("fipo")


def note_slower_objective(*, speaks: bool = True) -> None:
    """One line in the log `fipo` where this process has a GPU and the objective's kernels do not run on it."""
    if speaks and torch.cuda.is_available() and (reason := fused.obstacle()):
        log.warning("by torch's operations, which is slower: the objective: %s", reason)


def grader_pool(grader: str, **limits: float) -> GraderPool:
    """This process's workers for a grader: the same pool for the same arguments.

    Errors: ValueError for a limit (workers, deadline_seconds, memory_mib) that is not > 0.
    """
    return _pool(os.getpid(), grader, **limits)


def right_answer(value: Any, name: str) -> str | Grade:
    """The right answer that a host hands over, read as that of a file's row is; a failed grade for one that is none."""
    try:
        return answer_text(value, name)
    except MalformedRow as error:
        return Grade(outcome="crash", answer=None, reason=str(error))


def graded(pool: GraderPool, answers: Sequence[tuple[str, Problem | Grade]]) -> list[Grade]:
    """The grades of (response, problem) pairs; a Grade in a problem's place is its own. A warning names failed ones."""
    made = iter(pool.grade([(response, problem) for response, problem in answers if isinstance(problem, Problem)]))
    named = [
        (problem.id, next(made)) if isinstance(problem, Problem) else (str(i), problem)
        for i, (_, problem) in enumerate(answers)
    ]
    if line := failure_line(named):
        log.warning(line)
    return [grade for _, grade in named]


class FailurePolicy:
    """What follows from grades that failed. Errors: ValueError for a word or a number that is none."""

    def __init__(self, on_failure: str, max_failures: int | None) -> None:
        if on_failure not in ON_FAILURE:
            raise ValueError(f"on_failure must be {' or '.join(ON_FAILURE)}, got {on_failure!r}")
        whole = isinstance(max_failures, int) and not isinstance(max_failures, bool)
        if max_failures is not None and not (whole and max_failures >= 0):
            raise ValueError(f"max_failures must be a whole number >= 0, got {max_failures!r}")
        self.drops_groups = on_failure == "drop_group"
        self._max_failures = max_failures
        self._failed = 0

    def count(self, failed: int) -> None:
        """So many more grades failed. Raises RuntimeError once that makes more than `max_failures`."""
        self._failed += failed
        if line := too_many_failures(self._failed, self._max_failures):
            raise RuntimeError(line)


def sampler_gap(old: Tensor, sampled: Tensor, loss_mask: Tensor) -> dict[str, Metric]:
    """How far the sampler's log-probs are from the old ones, over the loss tokens; [B, T] each."""
    gaps = (sampled - old).abs()[loss_mask].double()
    return {
        "rollout/logprob_gap/mean": Mean(float(gaps.sum()), len(gaps)),
        "rollout/logprob_gap/max": Max(float(gaps.max()) if len(gaps) else float("-inf")),
    }


@functools.cache
def _pool(process: int, grader: str, **limits: Any) -> GraderPool:
    """One for each process: a fork must leave its parent's workers alone, also when it exits."""
    pool = GraderPool(grader, **limits)
    atexit.register(lambda: pool.close() if os.getpid() == process else None)
    return pool
