"""What grades come to, in every trainer: a reward, the metrics of a batch, and the words for those that failed."""

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import get_args

from fipo.grading.grade import Grade, Outcome

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


def reward_of(grade: Grade) -> float:
    """+1 for a correct answer, 0 where the grader failed, which says nothing of the answer, -1 otherwise."""
    return 1.0 if grade.correct else 0.0 if grade.failed else -1.0


def grade_metrics(grades: Sequence[Grade]) -> dict[str, float]:
    """The share of each outcome, `grade/correct` and so on, and the number of timeouts and crashes, `grade/failed`."""
    shares = {f"grade/{outcome}": fmean(grade.outcome == outcome for grade in grades) for outcome in OUTCOMES}
    return shares | {"grade/failed": sum(grade.failed for grade in grades)}


def failure_line(grades: Iterable[tuple[str, Grade]]) -> str | None:
    """Of (problem's id, grade): `2 grades failed, the first on problem 17: crash (ValueError: no)`, or None."""
    failed = [(problem, grade) for problem, grade in grades if grade.failed]
    if not failed:
        return None
    problem, grade = failed[0]
    return f"{len(failed)} grades failed, the first on problem {problem}: {grade.outcome} ({grade.reason})"


def too_many_failures(failed: int, limit: int | None) -> str | None:
    """What ends a run in which more grades failed than `grading.max_failures`; None: nothing does."""
    if limit is None or failed <= limit:
        return None
    return f"{failed} grades timed out or crashed, more than grading.max_failures = {limit}"
