r"""The answer rule of DAPO's released mathematics reward, which FIPO's recipes use (`dapo` grading).

The answer is the last `Answer: ...` line within the final 300 characters; both it and the truth are then
normalised as text by the substitutions of Minerva (Lewkowycz et al. 2022, arXiv 2206.14858, App. D.1) and
compared as strings. There is no fallback to \boxed and no symbolic equality.
"""

import re

from fipo.data.problem import Problem
from fipo.grading.grade import Grade, compared
from fipo.grading.grader import Grader

TAIL = 300  # characters
ANSWER_LINE = re.compile(r"answer\s*:\s*([^\n]+)", re.IGNORECASE)

SUBSTITUTIONS = [
    ("an ", ""),
    ("a ", ""),
    (".$", "$"),
    ("\\$", ""),
    ("\\ ", ""),
    (" ", ""),
    ("mbox", "text"),
    (",\\text{and}", ","),
    ("\\text{and}", ","),
    ("\\text{m}", "\\text{}"),
]
# fmt: off
REMOVED = [
    "square", "ways", "integers", "dollars", "mph", "inches", "hours", "km", "units", "\\ldots", "sue", "points",
    "feet", "minutes", "digits", "cents", "degrees", "cm", "gm", "pounds", "meters", "meals", "edges", "students",
    "childrentickets", "multiples", "\\text{s}", "\\text{.}", "\\text{\ns}", "\\text{}^2", "\\text{}^3",
    "\\text{\n}", "\\text{}", "\\mathrm{th}", "^\\circ", "^{\\circ}", "\\;", ",\\!", "{,}", '"', "\\dots",
]
# fmt: on
REWRITES = [
    (re.compile(r"(.*?)(\$)(.*?)(\$)(.*)"), r"$\3$"),  # what stands between dollar signs
    (re.compile(r"(\\text\{)(.*?)(\})"), r"\2"),
    (re.compile(r"(\\textbf\{)(.*?)(\})"), r"\2"),
    (re.compile(r"(\\overline\{)(.*?)(\})"), r"\2"),
    (re.compile(r"(\\boxed\{)(.*)(\})"), r"\2"),
    (re.compile(r"(frac)([^{])(.)"), r"frac{\2}{\3}"),  # \frac12 as \frac{1}{2}
    (re.compile(r"(sqrt)([^{])"), r"sqrt{\2}"),
]


class DapoGrader(Grader):
    """DAPO's published rule: the last `Answer:` line in the final 300 characters, normalised as text."""

    name = "dapo"
    reads_boxes = False

    def readable(self, problem: Problem) -> str | None:
        if not normalise(problem.answer):
            return f'grader "dapo" needs an answer that is more than units and signs, got {problem.answer!r:.80}'
        return None

    def grade(self, response: str, problem: Problem) -> Grade:
        found = last_answer(response)
        return compared(None if found is None else normalise(found), normalise(problem.answer))


grade_dapo = DapoGrader()


def last_answer(response: str) -> str | None:
    """What follows the last `Answer:` in the final 300 characters, or None."""
    found = ANSWER_LINE.findall(response[-TAIL:])
    return found[-1] if found else None


def normalise(answer: str) -> str:
    """An answer in the form in which two are compared."""
    answer = answer.split("=")[-1]
    for old, new in SUBSTITUTIONS:
        answer = answer.replace(old, new)
    for expression in REMOVED:
        answer = answer.replace(expression, "")
    for pattern, replacement in REWRITES:
        answer = pattern.sub(replacement, answer)
    answer = answer.replace("$", "")
    if answer.replace(",", "").isdigit():
        answer = answer.replace(",", "")
    return answer.strip()
