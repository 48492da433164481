"""The `math` grader's verdicts on whole responses."""

from functools import lru_cache

from fipo.grading.grade import Grade
from fipo.grading.latex.finding import final_answers
from fipo.grading.latex.reader import readings_of
from fipo.grading.latex.tokens import Unreadable
from fipo.grading.latex.verdict import plainly, same_answer


def graded(response: str, right: str) -> Grade:
    """Whether the last complete answer of a response says what the right one says, which must be readable."""
    said = [answer for answer in final_answers(response) if why_unreadable(answer) is None]
    if not said:
        return Grade(outcome="no_answer", answer=None)
    correct = any(same_answer(_unboxed(right), answer) for answer in said)
    return Grade(outcome="correct" if correct else "wrong", answer=plainly(said[0]))


@lru_cache(maxsize=4096)
def why_unreadable(answer: str) -> str | None:
    """Why nothing can be compared with this answer; None if something can."""
    try:
        readings_of(_unboxed(answer))
    except Unreadable as error:
        return str(error)
    return None


def same_value(a: str, b: str) -> bool:
    """Whether one of two answers says what the other says. Raises Unreadable for a text that says nothing."""
    return same_answer(a, b) or same_answer(b, a)


def _unboxed(answer: str) -> str:
    """A problem's own answer may be a box, too."""
    return (final_answers(answer) or [answer])[0] if "boxed" in answer else answer
