"""The last number of a response, by value (`number` grading)."""

import re
from decimal import Context, Decimal

from fipo.data.problem import Problem
from fipo.grading.grade import Grade, compared
from fipo.grading.grader import Grader

# Bounded on purpose: a million digits are no number of ours, and cost no time. A comma belongs to a number
# only before exactly three digits, so that `1,000` is one number and `1,2` are two.
NUMBER = re.compile(
    r"(?<![0-9.])(?:(?<![\w)\]])-)?"
    r"(?:[0-9]{1,3}(?:,[0-9]{3}){1,12}(?![0-9])|[0-9]{1,40})(?:\.[0-9]{1,40})?(?![0-9])"
)
EXACT = Context(prec=100)  # more digits than NUMBER reads, so that nothing is rounded


class NumberGrader(Grader):
    """The last number in the response, by value: `12.50` equals `12.5`, `1,000` equals `1000`."""

    name = "number"

    def readable(self, problem: Problem) -> str | None:
        if _last_number(problem.answer) is None:
            return f'grader "number" needs a numeric answer, got {problem.answer!r:.80}'
        return None

    def grade(self, response: str, problem: Problem) -> Grade:
        return compared(_last_number(response), _last_number(problem.answer))


grade_number = NumberGrader()


def _last_number(text: str) -> str | None:
    """`-1,000.50` as `-1000.5`, and `-0` as `0`; None without a number. The minus sign U+2212 is one, too."""
    text = text.replace("\u2212", "-")
    found = NUMBER.findall(_ending(text)) or NUMBER.findall(text)
    return f"{EXACT.plus(Decimal(found[-1].replace(',', ''))).normalize(EXACT):f}" if found else None


def _ending(text: str) -> str:
    """The end of a long text, cut at a space: no number goes across it, so the last number in it is the text's."""
    return text[max(text.find(" ", max(len(text) - 200, 0)), 0) :]
