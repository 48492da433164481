"""The `math` grader's verdicts on whole responses."""

from functools import lru_cache

from fipo.grading.grade import Grade
from fipo.grading.latex.finding import OPEN, final_answers, without_marks
from fipo.grading.latex.reader import readings_of
from fipo.grading.latex.readings import Written
from fipo.grading.latex.tokens import Unreadable
from fipo.grading.latex.verdict import plainly, same_answer


def graded(response: str, right: str) -> Grade:
    """Whether the last complete answer of a response says what the right one says, which must be readable."""
    said = [answer for answer in final_answers(response) if _why_silent(answer) is None]
    if not said:
        return Grade(outcome="no_answer", answer=None)
    correct = any(same_answer(_bare(right), answer) for answer in said)
    return Grade(outcome="correct" if correct else "wrong", answer=plainly(said[0]))


def why_unreadable(answer: str) -> str | None:
    """Why nothing can be compared with a problem's own answer; None if something can."""
    return _why_silent(_bare(answer))


@lru_cache(maxsize=4096)
def _why_silent(answer: str) -> str | None:
    """Why an answer says nothing; None if it says something."""
    try:
        readings = readings_of(answer)
    except Unreadable as error:
        return str(error)
    signs = all(isinstance(one, Written) and not any(map(str.isalnum, one.text)) for one in readings)
    return "there is nothing in it but signs" if signs else None


def same_value(a: str, b: str) -> bool:
    """Whether one of two answers says what the other says. Raises Unreadable for a text that says nothing."""
    return same_answer(a, b) or same_answer(b, a)


def _bare(answer: str) -> str:
    """A problem's own answer may be a box, in a tag or emphasised, too."""
    if "boxed" in answer or OPEN in answer:
        return (final_answers(answer) or [answer])[0]
    return without_marks(answer) or answer
