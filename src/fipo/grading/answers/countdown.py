"""Countdown: whether an expression makes the target from the given numbers (`countdown` grading)."""

import re

from fipo.data.problem import Problem
from fipo.grading.answers.arithmetic import evaluate, integers
from fipo.grading.answers.extract import marked_answer
from fipo.grading.grade import Grade

AS_EQUATION = re.compile(r"=\s*-?[0-9]{1,20}\s*$")


def grade_countdown(response: str, problem: Problem) -> Grade:
    """By value and use: the expression equals the target and uses each given number exactly once.

    The expression stands after the last `Answer:`, in the last `<answer>` tag, or else in the last line that is
    not empty; an `= target` at its end is left out. problem.metadata gives `numbers` and `target`.
    """
    written = _expression(response)
    if not written:
        return Grade(outcome="no_answer", answer=None)
    right = solves(written, problem.metadata["numbers"], problem.metadata["target"])
    return Grade(outcome="correct" if right else "wrong", answer=written)


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
