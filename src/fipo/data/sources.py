"""Where problems come from: the `[data.train]` and `[data.eval]` tables of a recipe, and their loaders."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue, ValidationInfo

from fipo.data.bad_rows import BadRows, MalformedRow
from fipo.data.files import read_rows
from fipo.data.hub import hub_rows
from fipo.data.layouts import columns_of, to_problem
from fipo.data.made.champ import champ_problems
from fipo.data.made.countdown import Form, Operator, Order, countdown
from fipo.data.made.gym import gym_entries
from fipo.data.made.relay import Filler, relay
from fipo.data.made.signed_sums import MAX_TERMS, MIN_TERMS, signed_sums
from fipo.data.problem import Placed, Problem
from fipo.data.repeats import Merged, first_of_each, merge_repeats
from fipo.data.templates import TemplateName, in_template
from fipo.errors import UserError
from fipo.recipe.table import AtOnce, Table
from fipo.seeding import derive_seed

Role = Literal["train", "eval"]


def _not_fewer(max_terms: int, others: ValidationInfo) -> int:
    min_terms = others.data.get("min_terms", max_terms)  # missing if that is invalid itself
    if max_terms < min_terms:
        raise ValueError(f"must be >= min_terms = {min_terms}, got {max_terms}")
    return max_terms


class SignedSums(Table):
    """Our own sums of signed terms; training and evaluation never share a question."""

    source: Literal["signed_sums"]
    count: AtOnce
    """Problems."""
    min_terms: Annotated[int, Field(ge=MIN_TERMS, le=100)] = MIN_TERMS
    """Fewer terms would not give enough different questions."""
    max_terms: Annotated[int, Field(ge=MIN_TERMS, le=100, validate_default=True), AfterValidator(_not_fewer)] = (
        MAX_TERMS
    )
    """Most terms of a sum."""


class Countdown(Table):
    """Make a target from given numbers; training and evaluation never share a question."""

    source: Literal["countdown"]
    count: AtOnce
    """Problems."""
    min_terms: Annotated[int, Field(ge=2, le=10)] = 3
    """Fewest numbers in a problem."""
    max_terms: Annotated[int, Field(ge=2, le=10, validate_default=True), AfterValidator(_not_fewer)] = 4
    """Most numbers in a problem."""
    largest: Annotated[int, Field(ge=2, le=10**6)] = 99
    """The numbers are drawn from 1 to this."""
    operators: Annotated[list[Operator], Field(min_length=1, default_factory=lambda: ["+", "-", "*", "/"])]
    """Those that the problems are made with; an answer may use all four."""
    form: Form = "instructions"
    """"instructions": says what to do; "bare": `Numbers: 3, 1, 2. Target: 4. Answer:`, to stand after examples."""
    order: Order = "ascending"
    """How the numbers are listed: "solution" = as they stand in one, so that only the operators are to be found."""


class Relay(Table):
    """Four digits to be passed on between letters that mean nothing, for the `relay` grader: the credit is known."""

    source: Literal["relay"]
    count: AtOnce
    """Problems."""
    filler: Filler = 8
    """Letters in a block."""


class Published(Table):
    """Mathematics as published; `docs/data.md` lists the layouts, which are recognised by their columns."""

    template: TemplateName = "none"
    """How a bare question becomes the prompt: "none" = as it stands, "dapo" = with the instructions of DAPO-Math-17k,
    "boxed" = asking for \\boxed{}."""


def _paths(value: Any) -> Any:
    several = value if isinstance(value, list) else [value]
    if not several or not all(isinstance(path, str) for path in several):
        raise ValueError(f"must be a path or a list of paths, got {value!r:.80}")
    return value


class File(Published):
    """.jsonl or .parquet files on this machine."""

    source: Literal["file"]
    path: Annotated[str | list[str], BeforeValidator(_paths)]
    """One file, or the files of a dataset that is published in several, as one."""


class Hub(Published):
    """A dataset of the Hugging Face hub (`pip install fipo[hub]`), the one source that touches the network."""

    source: Literal["hub"]
    name: Annotated[str, Field(pattern=r"^\w[\w.-]*/\w[\w.-]*$")]
    """As `openai/gsm8k`."""
    config: str | None = None
    """As `main`, for a dataset that has several."""
    split: str
    """As `train`."""
    revision: str | None = None
    """A branch, tag or commit; left out = the newest."""


class Champ(Published):
    """The competition problems of the champ-dataset package (`pip install fipo[champ]`); for `math` grading."""

    source: Literal["champ"]


class ReasoningGym(Table):
    """A task of the reasoning-gym package by its name there (`pip install fipo[gym]`)."""

    source: Literal["reasoning_gym"]
    task: str
    """As `chain_sum`."""
    count: AtOnce
    """Problems."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Passed on to the task, e.g. `{ min_terms = 3 }`."""


AnySource = SignedSums | Countdown | Relay | File | Hub | Champ | ReasoningGym
Source = Annotated[AnySource, Field(discriminator="source")]


def load_problems(source: AnySource, role: Role, seed: int, bad_rows: BadRows) -> Merged:
    """The problems of one source, each question once, in a fixed order, with the number of repeats.

    Rows that are malformed or contradict each other go to `bad_rows`. Raises UserError for one too many of them,
    and for a source that cannot be had or read, with the reason and the place.
    """
    match source:
        case SignedSums():
            return first_of_each(signed_sums(role, source.count, seed, source.min_terms, source.max_terms))
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
                    form=source.form,
                    order=source.order,
                )
            )
        case Relay():
            return first_of_each(relay(role, source.count, seed, filler=source.filler))
        case File():
            return _published(_file_rows(source, bad_rows), source, bad_rows)
        case Hub():
            rows = hub_rows(source.name, config=source.config, split=source.split, revision=source.revision)
            return _published(((where, row, source.name) for where, row in rows), source, bad_rows)
        case Champ():
            return first_of_each(in_template(problem, source.template, problem.id) for problem in champ_problems())
        case ReasoningGym():
            return first_of_each(_reasoning_gym(source, derive_seed(seed, "reasoning_gym", role) % 2**31))


def _file_rows(source: File, bad_rows: BadRows) -> Iterator[tuple[str, Any, str]]:
    """(place, row, what its dataset is called if the row does not say)."""
    for path in map(Path, [source.path] if isinstance(source.path, str) else source.path):
        bad, empty = bad_rows.count, True
        for where, row in read_rows(path, columns_of, bad_rows):
            empty = False
            yield where, row, path.stem
        if empty and bad_rows.count == bad:
            raise UserError(f"{path}: holds no rows")


def _published(rows: Iterable[tuple[str, Any, str]], source: Published, bad_rows: BadRows) -> Merged:
    def problems() -> Iterator[Placed]:
        for where, row, name in rows:
            try:
                problem = to_problem(row, name)
            except MalformedRow as error:
                bad_rows.leave_out(where, str(error))
                continue
            yield Placed(problem=in_template(problem, source.template, where), where=where)

    return merge_repeats(problems(), bad_rows)


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
