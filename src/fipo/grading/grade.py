"""What a grader says of one response."""

import math
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["correct", "wrong", "no_answer", "timeout", "crash"]


@dataclass(frozen=True, kw_only=True)
class Grade:
    """What a grader says: right, wrong, no answer, or that it failed; and a reward where that says more.

    Raises ValueError for a score that is not a finite number.

    >>> Grade(outcome="wrong", answer="5", score=0.3).correct
    False
    """

    outcome: Outcome
    answer: str | None  # what was read from the response, in the form that was compared
    reason: str | None = None  # why the grader failed, for the user who has to mend it
    score: float | None = None  # the reward, of a grader that gives numbers; None: right or wrong says it all
    parts: tuple[tuple[str, float], ...] = ()  # of several graders, what each gave: (its label, reward)

    def __post_init__(self) -> None:
        if self.score is not None and not (isinstance(self.score, int | float) and math.isfinite(self.score)):
            raise ValueError(f"the score of a Grade must be a finite number or None, got {self.score!r:.80}")

    @property
    def correct(self) -> bool:
        return self.outcome == "correct"

    @property
    def failed(self) -> bool:
        """The grader gave no verdict: this says nothing about the response."""
        return self.outcome in ("timeout", "crash")


def compared(found: str | None, expected: str | None) -> Grade:
    """The grade of an answer that was found, or None, beside the right one, in the form in which both are compared."""
    if found is None:
        return Grade(outcome="no_answer", answer=None)
    return Grade(outcome="correct" if found == expected else "wrong", answer=found)
