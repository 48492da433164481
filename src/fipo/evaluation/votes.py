r"""Which answers of a problem vote together: a majority is one over values, not over texts.

All that is graded correct is one answer. Of the others those are that the grader calls the same: equal texts, and for
the `math` grader texts of equal value, `\frac{1}{3}` and `1/3`. Every pair of them is compared, but only where it
matters: with some correct samples, and no more of them than wrong ones.
"""

from collections.abc import Callable, Sequence
from itertools import combinations

from fipo.grading.grade import Grade

CORRECT = 0  # the vote of every correct sample; the wrong answers are numbered from 1
Same = Callable[[Sequence[tuple[str, str]]], list[bool]]


def votes_of(grades: Sequence[Sequence[Grade]], same: Same) -> list[list[int | None]]:
    """The vote of every sample, [P][n]: equal numbers are equal answers, None is no vote.

    No vote has a sample without an answer, or with one that is too large to be compared. `same` says of pairs of
    answers whether they are the same one to the grader (`GraderPool.same`).
    """
    texts = [list(dict.fromkeys(filter(None, map(_wrong_answer, row)))) for row in grades]
    stands_for: list[dict[str, str]] = [{text: text for text in row} for row in texts]
    pairs = [(p, a, b) for p, row in enumerate(grades) if _in_doubt(row) for a, b in combinations(texts[p], 2)]
    verdicts = same([(a, b) for _, a, b in pairs]) if pairs else []
    for (p, a, b), equal in zip(pairs, verdicts, strict=True):
        if equal:
            _join(stands_for[p], a, b)
    votes = []
    for row, joined in zip(grades, stands_for, strict=True):
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
