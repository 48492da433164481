"""Relays: whether the digits of a response are the four that are wanted (`relay` grading)."""

from fipo.data.made.relay import decisions
from fipo.data.problem import Problem
from fipo.grading.grade import Grade, compared
from fipo.grading.grader import Grader


class RelayGrader(Grader):
    """The digits of the response, whatever letters stand between them, are the problem's answer."""

    name = "relay"
    reads_boxes = False

    def readable(self, problem: Problem) -> str | None:
        return None if problem.source == "relay" else f'grader "relay" needs source "relay", got {problem.source}'

    def grade(self, response: str, problem: Problem) -> Grade:
        return compared(decisions(response) or None, problem.answer)


grade_relay = RelayGrader()
