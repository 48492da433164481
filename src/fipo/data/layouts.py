r"""The column layouts in which mathematics is published, and what a row of each says.

Which layout a row has is decided by the names of its columns alone; `docs/data.md` says which datasets have it.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

from fipo.data import dapo_row
from fipo.data.bad_rows import MalformedRow
from fipo.data.boxed import boxes_in
from fipo.data.problem import Problem
from fipo.data.row_values import answer_text, check_text, index_of, json_value, prompt_of
from fipo.seeding import derive_seed

IDS = ("ID", "id", "unique_id")  # columns that name a row: the first of them that says something


@dataclass(frozen=True, kw_only=True)
class Layout:
    name: str
    needed: tuple[str, ...]  # the columns that tell it from the others
    optional: tuple[str, ...]  # columns that are read if they are there
    unless: tuple[str, ...] = ()  # columns that no row of this layout has
    to_problem: Callable[[dict[str, Any], str], Problem]  # (row, source); raises MalformedRow


def columns_of(columns: Iterable[str], layout: Layout | None = None) -> tuple[str, ...]:
    """Those of a file's columns that are read, by their layout or `layout`. Raises MalformedRow as `to_problem`."""
    there = tuple(columns)
    layout = _fitting(there, layout)
    return tuple(name for name in (*layout.needed, *layout.optional) if name in there)


@lru_cache(maxsize=256)
def layout_of(columns: tuple[str, ...]) -> Layout:
    """The layout of rows with these columns. Raises MalformedRow if none fits, or more than one."""
    fitting = [each for each in LAYOUTS if {*each.needed} <= {*columns} and {*each.unless}.isdisjoint(columns)]
    if len(fitting) == 1:
        return fitting[0]
    got = f"{', '.join(columns)!r:.80}"
    if fitting:
        raise MalformedRow(f"columns must fit one layout, got {got}: {' and '.join(each.name for each in fitting)}")
    known = "; ".join(f"{each.name}: {', '.join(each.needed)}" for each in LAYOUTS)
    raise MalformedRow(
        f"must have the columns of a known layout ({known}), or be told them "
        f'(columns = {{ prompt = "...", answer = "..." }}), got {got}'
    )


def to_problem(row: Any, source: str, layout: Layout | None = None) -> Problem:
    """A row of any known layout, or of `layout`. Raises MalformedRow with the rule and the value."""
    if not isinstance(row, dict):
        raise MalformedRow(f"a row must be an object, got {type(row).__name__}")
    return _fitting(tuple(row), layout).to_problem(row, source)


def _fitting(columns: tuple[str, ...], layout: Layout | None) -> Layout:
    if layout is None:
        return layout_of(columns)
    missing = next((name for name in layout.needed if name not in columns), None)
    if missing is not None:
        raise MalformedRow(f"must have the column {missing!r} that the recipe names, got {', '.join(columns)!r:.80}")
    return layout


def named_layout(columns: Mapping[str, str]) -> Layout:
    """The layout of a recipe's own `columns`: prompt, answer, id if there is one, and what a grader shall see."""
    others = {name: column for name, column in columns.items() if name not in ("prompt", "answer", "id")}
    ids = (columns["id"],) if "id" in columns else IDS

    def problem_of(row: dict[str, Any], source: str) -> Problem:
        problem = _bare(row, source, question=columns["prompt"], answer=columns["answer"], final=final_answer, ids=ids)
        return replace(problem, metadata={name: json_value(row[column]) for name, column in others.items()})

    needed = dict.fromkeys(columns.values())
    return Layout(
        name="named", needed=tuple(needed), optional=IDS if "id" not in columns else (), to_problem=problem_of
    )


def _bare(
    row: dict[str, Any],
    source: str,
    *,
    question: str,
    answer: str,
    final: Callable[[str], str],
    ids: tuple[str, ...] = IDS,
) -> Problem:
    """A row whose question stands alone; `final` finds the answer in the text of its column."""
    prompt = prompt_of(row[question], question)
    named_by = next((name for name in ids if row.get(name) is not None), ids[0])
    index = index_of(row.get(named_by), named_by)
    found = final(answer_text(row[answer], answer)).strip()
    if not found:
        raise MalformedRow(f"{answer} must not give an empty answer, got {row[answer]!r:.80}")
    problem = Problem(id=f"{source}/{index}", prompt=prompt, answer=found, source=source)
    check_text(problem)
    return problem if index else replace(problem, id=f"{source}/{derive_seed(0, problem.text):016x}")


def after_hashes(answer: str) -> str:
    """`... #### 1,080` as `1080` (GSM8K). An answer in one word stands for itself (opencompass/AIME2025)."""
    _, hashes, final = answer.rpartition("####")
    if hashes:
        return final.replace(",", "")
    if len(answer.split()) != 1:
        raise MalformedRow(f"answer must end in '#### ' and the final answer, or be that alone, got {answer!r:.80}")
    return answer


def last_boxed(solution: str) -> str:
    r"""What stands in the last `\boxed{}`, `\boxed` or `\fbox{}` of a solution (MATH)."""
    boxes = boxes_in(solution)
    if not boxes:
        raise MalformedRow(f"solution must have a \\boxed answer, got {solution!r:.80}")
    last = boxes[-1]
    if last.content is None:
        raise MalformedRow(f"solution must close the braces of its \\boxed answer, got {solution[last.start :]!r:.80}")
    return written_plainly(last.content)


def final_answer(text: str) -> str:
    """What stands in the last box of a solution, else after its last `####`, else the text as it is."""
    if boxes_in(text):
        return last_boxed(text)
    return after_hashes(text) if "####" in text else text


def written_plainly(answer: str) -> str:
    r"""`\$32,\!348` as `32348`, and AIME's `073` as `73`."""
    answer = re.sub(r"(?<=\d),\\!\s*(?=\d{3})", "", answer.replace("\\$", "")).strip()
    return str(int(answer)) if re.fullmatch(r"0[0-9]{1,2}", answer) else answer


def _bare_layout(
    name: str, question: str, answer: str, final: Callable[[str], str], unless: tuple[str, ...] = ()
) -> Layout:
    return Layout(
        name=name,
        needed=(question, answer),
        optional=IDS,
        unless=unless,
        to_problem=partial(_bare, question=question, answer=answer, final=final),
    )


LAYOUTS = (
    Layout(
        name="dapo",
        needed=("prompt", "reward_model"),
        optional=("data_source", "extra_info"),
        to_problem=lambda row, _: dapo_row.to_problem(row),
    ),
    _bare_layout("gsm8k", "question", "answer", after_hashes),
    _bare_layout("math", "problem", "solution", last_boxed, unless=("answer",)),
    _bare_layout("aime", "problem", "answer", written_plainly),
    _bare_layout("aime_2024", "Problem", "Answer", written_plainly),
    _bare_layout("plain", "prompt", "answer", final_answer, unless=("reward_model", "question", "problem", "Problem")),
)
