"""The whole response as text (`exact` grading)."""

from fipo.data.problem import Problem
from fipo.grading.grade import Grade, compared


def grade_exact(response: str, problem: Problem) -> Grade:
    """The whole response, white space at its ends aside."""
    return compared(response.strip() or None, problem.answer.strip())
