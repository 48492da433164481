"""The graders of a recipe for training: one says what is right, and each of them may pay for a response."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from fipo.beat import Beat, no_beat
from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.grading.grade import Grade
from fipo.grading.outcomes import broken, reward_of
from fipo.grading.workers.pool import GraderPool


class Graders(Protocol):
    """What grades a run: a Panel, or the pool of one grader."""

    @property
    def source(self) -> str | None: ...

    def grade(self, answers: Sequence[tuple[str, Problem]], beat: Beat = ...) -> list[Grade]: ...

    def readable(self, problems: Sequence[Problem], beat: Beat = ...) -> list[str | None]: ...


class BrokenGrader(UserError):
    """Every grade of the first batch failed in the same way: nothing can be learned, and the grader is to be mended."""


class Panel:
    """Graders with weights; `judge` is the one whose outcome and answer count, whether or not it is paid for.

    The reward of a response is scale x (sum of weight x what a grader gave) + `format` where the judge found an answer.
    A response that one of the graders failed on is one that failed. With `prove` a first
    batch in which every grade fails with the same error is refused.
    """

    def __init__(
        self,
        judge: str,
        weights: Mapping[str, float],
        pool: Callable[[str], GraderPool],
        *,
        scale: float = 1.0,
        format: float = 0.0,
        prove: bool = False,
    ) -> None:
        self.judge = judge
        self._weights = dict(weights) or {judge: 1.0}
        self._pools = {name: pool(name) for name in dict.fromkeys([judge, *self._weights])}
        self._scale = scale
        self._format = format
        self._as_judged = scale == 1 and format == 0 and self._weights == {judge: 1.0}
        self._unproven = prove

    @property
    def source(self) -> str | None:
        """SHA-256 of the modules of the user's, once they are started."""
        sources = [pool.source for pool in self._pools.values() if pool.source]
        return hashlib.sha256("".join(sources).encode()).hexdigest() if len(sources) > 1 else next(iter(sources), None)

    def start(self) -> None:
        """Start the workers. Raises UserError with one line if a grader cannot be had."""
        for pool in self._pools.values():
            pool.start()

    def grade(self, answers: Sequence[tuple[str, Problem]], beat: Beat = no_beat) -> list[Grade]:
        """What the judge says of each (response, problem), with the reward as its score.

        The judge's own grades, where it alone is paid for. Raises UserError as `GraderPool.grade`, and BrokenGrader.
        """
        by_grader = {name: pool.grade(answers, beat) for name, pool in self._pools.items()}
        if self._unproven and answers:
            self._unproven = False
            for name, grades in by_grader.items():
                if line := broken(grades):
                    raise BrokenGrader(f"grader {name!r}: {line}")
        if self._as_judged:
            return by_grader[self.judge]
        return [self._together(dict(zip(by_grader, row, strict=True))) for row in zip(*by_grader.values(), strict=True)]

    def readable(self, problems: Sequence[Problem], beat: Beat = no_beat) -> list[str | None]:
        """Why the first grader that cannot grade responses to a problem cannot, for each; None where all can."""
        reasons = [pool.readable(problems, beat) for pool in self._pools.values()]
        return [next(filter(None, row), None) for row in zip(*reasons, strict=True)]

    def same(self, pairs: Sequence[tuple[str, str]], beat: Beat = no_beat) -> list[bool]:
        """Whether the two answers of each pair are the same one to the judge."""
        return self._pools[self.judge].same(pairs, beat)

    def worker_stacks(self) -> str:
        return "\n".join(pool.worker_stacks() for pool in self._pools.values())

    def close(self) -> None:
        for pool in self._pools.values():
            pool.close()

    def __enter__(self) -> "Panel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _together(self, grades: Mapping[str, Grade]) -> Grade:
        for name, grade in grades.items():
            if grade.failed:
                return replace(
                    grade, answer=None, reason=f"{name}: {grade.reason}" if len(grades) > 1 else grade.reason
                )
        verdict = grades[self.judge]
        parts = {name: reward_of(grades[name]) for name in self._weights}
        paid = self._scale * sum(weight * parts[name] for name, weight in self._weights.items())
        return replace(
            verdict,
            score=paid + (self._format if verdict.outcome != "no_answer" else 0.0),
            parts=tuple((label(name), part) for name, part in parts.items()) if len(grades) > 1 else (),
        )


def label(grader: str) -> str:
    """What a grader is called in metrics: `my_rewards:close_enough` is `close_enough`."""
    return grader.rpartition(":")[2]
