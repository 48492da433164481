r"""Equality by value (`math` grading): `\frac{1}{2}` equals `0.5`, `x+1` equals `1+x`, `(2, 3.5)` equals `(2, 7/2)`."""

from fipo.data.problem import Problem
from fipo.grading.grade import Grade
from fipo.grading.grader import Grader


class MathGrader(Grader):
    """The last complete answer of a response, by what it says. The work is done by `fipo.grading.latex`."""

    name = "math"

    def load(self) -> None:
        import fipo.grading.latex.judge  # noqa: F401

    def readable(self, problem: Problem) -> str | None:
        from fipo.grading.latex.judge import why_unreadable

        reason = why_unreadable(problem.answer)
        if reason is None:
            return None
        return f'grader "math" needs a number, latex or words as answer, got {problem.answer!r:.80}: {reason}'

    def grade(self, response: str, problem: Problem) -> Grade:
        from fipo.grading.latex.judge import graded

        return graded(response, problem.answer)

    def same(self, a: str, b: str) -> bool:
        from fipo.grading.latex.judge import same_value

        return same_value(a, b)


grade_math = MathGrader()
