"""Our graders as verl's custom reward function.

reward.custom_reward_function.path=pkg://fipo.integrations.verl.reward
reward.custom_reward_function.name=compute_score
+reward.custom_reward_function.reward_kwargs.grader=dapo

Every process that verl grades in has worker processes of its own (`workers`), which are killed when an answer takes
longer than `deadline_seconds`. verl calls from many threads; their answers are graded together.
"""

import atexit
import functools
import os
import queue
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from fipo.data.problem import Problem
from fipo.data.row_values import json_value
from fipo.grading.grade import Grade
from fipo.grading.outcomes import reward_of
from fipo.grading.workers.pool import GraderPool
from fipo.integrations.shared import graded, grader_pool, right_answer

OUR_REWARD = "pkg://fipo.integrations.verl.reward"
DEFAULT_GRADER = "dapo"
VERL_ADDS = ("reward_router_address", "reward_model_tokenizer", "reward_model")
OF_THE_TRAINER = ("on_failure", "max_failures")  # v1.py acts on them: what is raised here fails one group, no more
_OPENING = threading.Lock()
_Request = tuple[str, Problem | Grade, "Future[Grade]"]


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    grader: str = DEFAULT_GRADER,
    workers: int = 1,
    deadline_seconds: float = 10.0,
    memory_mib: int = 2048,
    **others: Any,
) -> dict[str, Any]:
    """+1 or -1 for one response, 0 where the grader failed, and how that came about.

    Returns score; acc (1.0 or 0.0, what `algorithm.filter_groups.metric=acc` looks at); pred, the answer as it was
    compared; outcome (correct, wrong, no_answer, timeout, crash); grade/failed (1.0 or 0.0) and reason.
    grader: one of ours (dapo: the last `Answer:` line of the final 300 characters) or `module:function`.
    Errors: ValueError for settings that do not exist, UserError for a grader that cannot be had.
    """
    unknown = sorted(set(others) - {*VERL_ADDS, *OF_THE_TRAINER})
    if unknown:
        raise ValueError(f"reward_kwargs has unknown keys: {', '.join(unknown)}")
    right = right_answer(ground_truth, "ground_truth")
    with _OPENING:  # verl's threads all come at once, and there is one desk for them
        desk = _desk(os.getpid(), grader, workers, deadline_seconds, memory_mib)
    if isinstance(right, str):
        problem = Problem(
            id=str((extra_info or {}).get("index", "")),
            prompt="",
            answer=right,
            source=str(data_source),
            metadata=json_value(extra_info or {}),
        )
    grade = desk.grade(solution_str, problem if isinstance(right, str) else right)
    return {
        "score": reward_of(grade),
        "acc": float(grade.correct),
        "pred": grade.answer or "",
        "outcome": grade.outcome,
        "grade/failed": float(grade.failed),
        "reason": grade.reason or "",
    }


class Desk:
    """Grades for many threads with one pool: what comes in while it grades is its next batch."""

    def __init__(self, pool: GraderPool) -> None:
        self._pool = pool
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="fipo-grading", daemon=True)
        self._thread.start()

    def grade(self, response: str, problem: Problem | Grade) -> Grade:
        answer: Future[Grade] = Future()
        self._requests.put((response, problem, answer))
        return answer.result()

    def close(self) -> None:
        self._requests.put(None)
        self._thread.join()

    def _serve(self) -> None:
        while (batch := self._next_batch()) is not None:
            try:
                grades = graded(self._pool, [(response, problem) for response, problem, _ in batch])
            except BaseException as error:  # whatever it is, those who wait must hear of it
                for _, _, answer in batch:
                    answer.set_exception(error)
            else:
                for (_, _, answer), grade in zip(batch, grades, strict=True):
                    answer.set_result(grade)
        self._pool.close()

    def _next_batch(self) -> list[_Request] | None:
        """Everything that waits, in front of the mark that ends it all; None at that mark."""
        batch: list[_Request] = []
        while not batch or not self._requests.empty():
            request = self._requests.get()
            if request is None:
                if batch:
                    self._requests.put(None)
                break
            batch.append(request)
        return batch or None


@functools.cache
def _desk(process: int, grader: str, workers: int, deadline_seconds: float, memory_mib: int) -> Desk:
    pool = grader_pool(grader, workers=workers, deadline_seconds=deadline_seconds, memory_mib=memory_mib)
    desk = Desk(pool)
    atexit.register(lambda: desk.close() if os.getpid() == process else None)
    return desk
