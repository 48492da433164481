"""One problem for each question, and no question in two sets."""

from collections.abc import Iterable
from dataclasses import dataclass

from fipo.data.bad_rows import BadRows
from fipo.data.problem import Placed, Problem
from fipo.data.templates import bare_question


@dataclass(frozen=True, kw_only=True)
class Merged:
    problems: list[Placed]  # each question once, at its first place
    repeats: int  # rows that said nothing new


def merge_repeats(rows: Iterable[Placed], bad_rows: BadRows) -> Merged:
    """Each question once, in memory that grows with the questions and ids, not with the rows.

    A row that gives a question another answer, or an id another question, than an earlier row is a bad row.
    Which of the two is right cannot be known, so the earlier one is not used either.
    """
    by_text: dict[str, Placed] = {}
    by_id: dict[str, Placed] = {}
    doubtful: set[str] = set()
    repeats = 0
    for row in rows:
        text, answer, name = row.problem.text, row.problem.answer, row.problem.id
        namesake = by_id.get(name)
        if namesake and namesake.problem.text != text:
            doubtful.add(namesake.problem.text)
            bad_rows.leave_out(
                row.where,
                f"an id must name one question, got {name!r:.80} here and in {namesake.where}: neither is used",
            )
            continue
        twin = by_text.setdefault(text, row)
        if namesake is None:
            by_id[name] = Placed(problem=twin.problem, where=row.where)
        if twin.problem.answer != answer:
            doubtful.add(text)
            bad_rows.leave_out(
                row.where,
                f"a question must have one answer, got {answer!r:.80} here and {twin.problem.answer!r:.80} in "
                f"{twin.where}: neither is used",
            )
        elif twin is not row:
            repeats += 1
    return Merged(problems=[row for text, row in by_text.items() if text not in doubtful], repeats=repeats)


def first_of_each(problems: Iterable[Problem]) -> Merged:
    """Each question of a generator once, at its first place. It may have many right answers, so none contradicts."""
    by_text: dict[str, Placed] = {}
    count = 0
    for problem in problems:
        by_text.setdefault(problem.text, Placed(problem=problem, where=f"{problem.source}, entry {count}"))
        count += 1
    return Merged(problems=list(by_text.values()), repeats=count - len(by_text))


def without(problems: list[Problem], held_out: list[Problem]) -> list[Problem]:
    """The problems whose question, in whatever template, is not among the held-out ones."""
    questions = {bare_question(problem.text) for problem in held_out}
    return [problem for problem in problems if bare_question(problem.text) not in questions]
