"""Countdown: whether an expression makes the target from the given numbers (`countdown` grading)."""

import re

from fipo.data.problem import Problem
from fipo.grading.answers.arithmetic import evaluate, integers
from fipo.grading.answers.extract import marked_answer
from fipo.grading.grade import Grade
from fipo.grading.grader import Grader

AS_EQUATION = re.compile(r"=\s*-?[0-9]{1,20}\s*$")


class CountdownGrader(Grader):
    """By value and use: the expression equals the target and uses each given number exactly once.

    The expression stands after the last `Answer:`, in the last `<answer>` tag, or else in the last line that is
    not empty; an `= target` at its end is left out. problem.metadata gives `numbers` and `target`.
    """

    name = "countdown"

    def readable(self, problem: Problem) -> str | None:
        made = {"numbers", "target"} <= problem.metadata.keys()
        return None if made else f'grader "countdown" needs source "countdown", got {problem.source}'

    def grade(self, response: str, problem: Problem) -> Grade:
        written = _expression(response)
        if not written:
            return Grade(outcome="no_answer", answer=None)
        right = solves(written, problem.metadata["numbers"], problem.metadata["target"])
        return Grade(outcome="correct" if right else "wrong", answer=written)


grade_countdown = CountdownGrader()


def solves(expression: str, numbers: list[int], target: int) -> bool:
    """Whether the expression equals the target and uses each number exactly once."""
    try:
        return evaluate(expression) == target and sorted(integers(expression)) == sorted(numbers)
    except ValueError:
        return False


def _expression(response: str) -> str:
    marked = marked_answer(response)
    lines = (response if marked is None else marked).strip().splitlines()
    if not lines:
        return ""
    line = lines[-1] if marked is None else lines[0]
    return AS_EQUATION.sub("", line.strip(" \t`$")[:1000]).strip()
