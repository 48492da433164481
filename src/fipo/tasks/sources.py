"""Where problems come from: the `[data.train]` and `[data.eval]` tables of a recipe, and their loaders."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue, PositiveInt, ValidationInfo, field_validator

from fipo.errors import UserError
from fipo.seeding import derive_seed
from fipo.strict import Table
from fipo.tasks.bad_rows import BadRows, MalformedRow
from fipo.tasks.countdown import Operator, countdown
from fipo.tasks.dapo_row import COLUMNS, to_problem
from fipo.tasks.files import read_rows
from fipo.tasks.gym_entries import gym_entries
from fipo.tasks.problem import Placed, Problem
from fipo.tasks.repeats import Merged, first_of_each, merge_repeats
from fipo.tasks.signed_sums import signed_sums

Role = Literal["train", "eval"]


class SignedSums(Table):
    """Our own sums of signed terms; training and evaluation never share a question."""

    source: Literal["signed_sums"]
    count: PositiveInt


class Countdown(Table):
    """Make a target from given numbers; training and evaluation never share a question."""

    source: Literal["countdown"]
    count: PositiveInt
    min_terms: Annotated[int, Field(ge=2, le=10)] = 3
    """Fewest numbers in a problem."""
    max_terms: Annotated[int, Field(ge=2, le=10)] = 4
    largest: Annotated[int, Field(ge=2)] = 99
    """The numbers are drawn from 1 to this."""
    operators: Annotated[list[Operator], Field(min_length=1, default_factory=lambda: ["+", "-", "*", "/"])]
    """Those that the problems are made with; an answer may use all four."""

    @field_validator("max_terms")
    @classmethod
    def _valid_together(cls, max_terms: int, others: ValidationInfo) -> int:
        min_terms = others.data.get("min_terms", max_terms)  # missing if that is invalid itself
        if max_terms < min_terms:
            raise ValueError(f"must be >= min_terms = {min_terms}, got {max_terms}")
        return max_terms


class File(Table):
    """A .jsonl or .parquet file in DAPO's published schema: `prompt`, `reward_model.ground_truth`, `data_source`."""

    source: Literal["file"]
    path: str


class ReasoningGym(Table):
    """A task of the reasoning-gym package by its name there (`pip install fipo[gym]`)."""

    source: Literal["reasoning_gym"]
    task: str
    count: PositiveInt
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Passed on to the task, e.g. `{ min_terms = 3 }`."""


AnySource = SignedSums | Countdown | File | ReasoningGym
Source = Annotated[AnySource, Field(discriminator="source")]


def load_problems(source: AnySource, role: Role, seed: int, bad_rows: BadRows) -> Merged:
    """The problems of one source, each question once, in a fixed order, with the number of repeats.

    Rows of a file that are malformed or contradict each other go to `bad_rows`. Raises UserError for one too
    many of them, and for a file that cannot be read, with the reason and the place.
    """
    match source:
        case SignedSums():
            return first_of_each(signed_sums(role, source.count, seed))
        case Countdown():
            terms = (source.min_terms, source.max_terms)
            return first_of_each(
                countdown(
                    role,
                    source.count,
                    seed,
                    terms=terms,
                    largest=source.largest,
                    operators=tuple(source.operators),
                )
            )
        case File():
            merged = merge_repeats(_file_problems(Path(source.path), bad_rows), bad_rows)
            if not merged.problems and not bad_rows.count:
                raise UserError(f"{source.path}: holds no rows")
            return merged
        case ReasoningGym():
            return first_of_each(_reasoning_gym(source, derive_seed(seed, "reasoning_gym", role) % 2**31))


def _file_problems(path: Path, bad_rows: BadRows) -> Iterator[Placed]:
    for where, row in read_rows(path, COLUMNS, bad_rows):
        try:
            yield Placed(problem=to_problem(row), where=where)
        except MalformedRow as error:
            bad_rows.leave_out(where, str(error))


def _reasoning_gym(source: ReasoningGym, seed: int) -> list[Problem]:
    """Each with what creates its entry again: `create_dataset(task, size=size, seed=seed, **options)[index]`."""
    entries = gym_entries(source.task, source.count, seed, source.options)
    shared: dict[str, Any] = {"task": source.task, "size": source.count, "seed": seed, "options": source.options}
    return [
        Problem(
            id=f"{source.task}/{derive_seed(0, question):016x}",
            prompt=question,
            answer=answer,
            source=f"reasoning_gym/{source.task}",
            metadata=shared | {"index": index},
        )
        for index, (question, answer) in enumerate(entries)
    ]
