r"""Which answers of a problem vote together: a majority is one over values, not over texts.

All that is graded correct is one answer. Of the others equal texts are, and for the `math` grader texts of equal
value, `\frac{1}{3}` and `1/3`. It grades every pair of them for that, in its worker processes, and only where it
matters: with some correct samples, but no more of them than wrong ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations

from fipo.data.problem import Problem
from fipo.grading.grade import Grade

CORRECT = 0  # the vote of every correct sample; the wrong answers are numbered from 1
Pool = Callable[[Sequence[tuple[str, Problem]]], list[Grade]]


def votes_of(
    problems: Sequence[Problem], grades: Sequence[Sequence[Grade]], grader: str, grade: Pool
) -> list[list[int | None]]:
    """The vote of every sample, [P][n]: equal numbers are equal answers, None is no vote.

    No vote has a sample without an answer, or with one that is too large to be compared. `grade` grades with `grader`.
    """
    texts = [list(dict.fromkeys(filter(None, map(_wrong_answer, row)))) for row in grades]
    same: list[dict[str, str]] = [{text: text for text in row} for row in texts]
    if grader == "math":
        pairs = [(p, a, b) for p, row in enumerate(grades) if _in_doubt(row) for a, b in combinations(texts[p], 2)]
        equal = grade([(f"\\boxed{{{b}}}", replace(problems[p], answer=f"\\boxed{{{a}}}")) for p, a, b in pairs])
        for (p, a, b), verdict in zip(pairs, equal, strict=True):
            if verdict.correct:
                _join(same[p], a, b)
    votes = []
    for row, joined in zip(grades, same, strict=True):
        numbers = {text: i for i, text in enumerate(dict.fromkeys(joined.values()), start=CORRECT + 1)}
        votes.append([_vote(grade, joined, numbers) for grade in row])
    return votes


def _wrong_answer(grade: Grade) -> str | None:
    return None if grade.correct else grade.answer


def _in_doubt(row: Sequence[Grade]) -> bool:
    """Whether joining wrong answers could change the majority."""
    wrong = sum(bool(_wrong_answer(grade)) for grade in row)
    return 0 < sum(grade.correct for grade in row) <= wrong


def _join(joined: dict[str, str], a: str, b: str) -> None:
    """The answers that stand for `b` are from now on what stands for `a`."""
    old, new = joined[b], joined[a]
    for text, stands_for in joined.items():
        if stands_for == old:
            joined[text] = new


def _vote(grade: Grade, joined: dict[str, str], numbers: dict[str, int]) -> int | None:
    if grade.correct:
        return CORRECT
    return numbers[joined[grade.answer]] if grade.answer else None
