"""The whole response as text (`exact` grading)."""

from fipo.data.problem import Problem
from fipo.grading.grade import Grade, compared
from fipo.grading.grader import Grader


class ExactGrader(Grader):
    """The whole response, white space at its ends aside."""

    name = "exact"
    reads_boxes = False

    def readable(self, problem: Problem) -> str | None:
        return None if problem.answer.strip() else f'grader "exact" needs an answer, got {problem.answer!r:.80}'

    def grade(self, response: str, problem: Problem) -> Grade:
        return compared(response.strip() or None, problem.answer.strip())


grade_exact = ExactGrader()
