"""What grades come to, in every trainer: a reward, the metrics of a batch, and the words for those that failed."""

from collections.abc import Iterable, Sequence
from statistics import fmean
from typing import get_args

from fipo.grading.grade import Grade, Outcome

OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


def reward_of(grade: Grade) -> float:
    """0 where the grader failed, which says nothing of the answer; its number, if it gave one; else +1 or -1."""
    if grade.failed:
        return 0.0
    if grade.score is not None:
        return grade.score
    return 1.0 if grade.correct else -1.0


def varies(grades: Sequence[Grade]) -> bool:
    """Whether the rewards of a group say which responses are better: they are not all the same.

    A failed grade is worth no more than the worst of the others, so that it makes no contrast by paying better.
    """
    worst = min((reward_of(grade) for grade in grades if not grade.failed), default=0.0)
    return len({min(0.0, worst) if grade.failed else reward_of(grade) for grade in grades}) > 1


def grade_metrics(grades: Sequence[Grade]) -> dict[str, float]:
    """The share of each outcome, `grade/correct` and so on, and the number of timeouts and crashes, `grade/failed`."""
    shares = {f"grade/{outcome}": fmean(grade.outcome == outcome for grade in grades) for outcome in OUTCOMES}
    return shares | {"grade/failed": sum(grade.failed for grade in grades)}


def gives_numbers(grades: Iterable[Grade]) -> bool:
    """Whether the reward of some is a number of its own, and not that of right or wrong."""
    return any(grade.score is not None for grade in grades)


def part_metrics(grades: Sequence[Grade]) -> dict[str, float]:
    """The mean of what each of several graders gave, `grader/LABEL`, over the responses that none failed on."""
    rows = [dict(grade.parts) for grade in grades if grade.parts]
    return {f"grader/{name}": fmean(row[name] for row in rows) for name in (rows[0] if rows else {})}


def failure_line(grades: Iterable[tuple[str, Grade]]) -> str | None:
    """(problem's id, grade) as `2 grades failed, the first on problem 17: crash (ValueError: no)`, or None."""
    failed = [(problem, grade) for problem, grade in grades if grade.failed]
    if not failed:
        return None
    problem, grade = failed[0]
    return f"{len(failed)} grades failed, the first on problem {problem}: {grade.outcome} ({grade.reason})"


def broken(grades: Sequence[Grade]) -> str | None:
    """What a grader says that fails on every answer with the same error, in one line; None of one that does not.

    Errors are the same by their kind: what they say of an answer may differ.
    """
    kinds = {(grade.outcome, (grade.reason or "").partition(":")[0]) for grade in grades}
    if len(kinds) != 1 or not all(grade.failed for grade in grades):
        return None
    return f"all of {len(grades)} grades failed in the same way: {grades[0].outcome} ({grades[0].reason})"


def too_many_failures(failed: int, limit: int | None) -> str | None:
    """What ends a run in which more grades failed than `grading.max_failures`; None: nothing does."""
    if limit is None or failed <= limit:
        return None
    return f"{failed} grades timed out or crashed, more than grading.max_failures = {limit}"
