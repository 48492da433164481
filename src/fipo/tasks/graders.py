"""Graders: a response and its problem in, a typed outcome out. None of them executes what the model wrote."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Literal

from fipo.tasks.dapo_answer import last_answer, normalise
from fipo.tasks.problem import Problem

Outcome = Literal["correct", "wrong", "no_answer"]

# Bounded on purpose: a million digits are no number of ours, and cost no time. A comma belongs to a number
# only before exactly three digits, so that `1,000` is one number and `1,2` are two.
NUMBER = re.compile(
    r"(?<![0-9.])(?:(?<![\w)\]])-)?"
    r"(?:[0-9]{1,3}(?:,[0-9]{3}){1,12}(?![0-9])|[0-9]{1,40})(?:\.[0-9]{1,40})?(?![0-9])"
)
EXACT = Context(prec=100)  # more digits than NUMBER reads, so that nothing is rounded


@dataclass(frozen=True, kw_only=True)
class Grade:
    outcome: Outcome
    answer: str | None  # what was read from the response, in the form that was compared

    @property
    def correct(self) -> bool:
        return self.outcome == "correct"


Grader = Callable[[str, Problem], Grade]


def grade_number(response: str, problem: Problem) -> Grade:
    """The last number in the response, by value: `12.50` equals `12.5`, `1,000` equals `1000`."""
    expected = _last_number(problem.answer)
    found = _last_number(response)
    return _compare(found, expected)


def grade_exact(response: str, problem: Problem) -> Grade:
    """The whole response, white space at its ends aside."""
    return _compare(response.strip() or None, problem.answer.strip())


def grade_dapo(response: str, problem: Problem) -> Grade:
    """DAPO's published rule: the last `Answer:` line in the final 300 characters, normalised as text."""
    found = last_answer(response)
    return _compare(None if found is None else normalise(found), normalise(problem.answer))


GRADERS: dict[str, Grader] = {"number": grade_number, "exact": grade_exact, "dapo": grade_dapo}
GraderName = Literal["number", "exact", "dapo"]


def _last_number(text: str) -> str | None:
    """`-1,000.50` as `-1000.5`, and `-0` as `0`; None without a number."""
    found = NUMBER.findall(text)
    return f"{EXACT.plus(Decimal(found[-1].replace(',', ''))).normalize(EXACT):f}" if found else None


def _compare(found: str | None, expected: str | None) -> Grade:
    if found is None:
        return Grade(outcome="no_answer", answer=None)
    return Grade(outcome="correct" if found == expected else "wrong", answer=found)
