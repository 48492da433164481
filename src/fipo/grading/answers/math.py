r"""Equality by value (`math` grading): `\frac{1}{2}` equals `0.5`, `x+1` equals `1+x`."""

from fipo.data.problem import Problem
from fipo.grading.grade import Grade
from fipo.grading.grader import Grader


class MathGrader(Grader):
    """The work is done by `fipo.grading.answers.symbolic`, which takes a second to import."""

    name = "math"
    extra = "pip install math-verify"

    def load(self) -> None:
        import fipo.grading.answers.symbolic  # noqa: F401

    def readable(self, problem: Problem) -> str | None:
        from fipo.grading.answers.symbolic import truth

        try:
            truth(problem.answer)
        except ValueError as error:
            return str(error)
        return None

    def grade(self, response: str, problem: Problem) -> Grade:
        from fipo.grading.answers.symbolic import graded

        return graded(response, problem.answer)

    def same(self, a: str, b: str) -> bool:
        from fipo.grading.answers.symbolic import same_value

        return same_value(a, b)


grade_math = MathGrader()
