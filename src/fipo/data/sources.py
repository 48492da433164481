"""Where problems come from: the `[data.train]` and `[data.eval]` tables of a recipe, and their loaders."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Discriminator, Field, JsonValue, Tag, ValidationInfo

from fipo.data.bad_rows import BadRows, MalformedRow
from fipo.data.files import name_of, read_rows
from fipo.data.hub import hub_rows
from fipo.data.layouts import Layout, columns_of, named_layout, to_problem
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
from fipo.recipe.toml import are_sources
from fipo.seeding import derive_seed

Role = Literal["train", "eval"]


def _not_fewer(max_terms: int, others: ValidationInfo) -> int:
    min_terms = others.data.get("min_terms", max_terms)  # missing if that is invalid itself
    if max_terms < min_terms:
        raise ValueError(f"must be >= min_terms = {min_terms}, got {max_terms}")
    return max_terms


class SourceTable(Table):
    """One source of problems."""

    weight: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Its share of the problems that are drawn from several training sources, among all weights; left out = 1."""


class SignedSums(SourceTable):
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


class Countdown(SourceTable):
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


class Relay(SourceTable):
    """Four digits to be passed on between letters that mean nothing, for the `relay` grader: the credit is known."""

    source: Literal["relay"]
    count: AtOnce
    """Problems."""
    filler: Filler = 8
    """Letters in a block."""


class Published(SourceTable):
    """Mathematics as published; `docs/data.md` lists the layouts, which are recognised by their columns."""

    template: TemplateName = "none"
    """How a bare question becomes the prompt: "none" = as it stands, "dapo" = with the instructions of DAPO-Math-17k,
    "boxed" = asking for \\boxed{}."""


def _with_both(columns: dict[str, str]) -> dict[str, str]:
    missing = [name for name in ("prompt", "answer") if name not in columns]
    if missing:
        raise ValueError(f'must say which column is the {missing[0]}: {missing[0]} = "..."')
    return columns


class Rows(Published):
    """What is read row by row."""

    columns: Annotated[dict[str, str], AfterValidator(_with_both)] | None = None
    """For rows of no known layout: `{ prompt = "problem", answer = "solution" }`, an `id` if there is one, and any
    others under the name by which a grader finds them in `problem.metadata`."""

    @property
    def layout(self) -> Layout | None:
        return named_layout(self.columns) if self.columns else None


def _paths(value: Any) -> Any:
    several = value if isinstance(value, list) else [value]
    if not several or not all(isinstance(path, str) for path in several):
        raise ValueError(f"must be a path or a list of paths, got {value!r:.80}")
    return value


class File(Rows):
    """.jsonl (also .gz or .zst) or .parquet files on this machine."""

    source: Literal["file"]
    path: Annotated[str | list[str], BeforeValidator(_paths)]
    """One file, or the files of a dataset that is published in several, as one."""


class Hub(Rows):
    """A dataset of the Hugging Face hub (the extra `hub`), the one source that touches the network."""

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
    """The competition problems of the champ-dataset package (the extra `champ`); for `math` grading."""

    source: Literal["champ"]


class ReasoningGym(SourceTable):
    """A task of the reasoning-gym package by its name there (the extra `gym`)."""

    source: Literal["reasoning_gym"]
    task: str
    """As `chain_sum`."""
    count: AtOnce
    """Problems."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """Passed on to the task, e.g. `{ min_terms = 3 }`."""


AnySource = SignedSums | Countdown | Relay | File | Hub | Champ | ReasoningGym
Source = Annotated[AnySource, Field(discriminator="source")]


def _in_a_list(value: Any) -> str:
    """Which of the tables below a value is: those tags are in no key of a recipe."""
    return "<several>" if isinstance(value, list) else "<one>"


def _by_name(value: Any) -> str:
    named = isinstance(value, dict) and (are_sources(value) or any(isinstance(v, Table) for v in value.values()))
    return "<named>" if named else "<one>"


def _single(value: AnySource | dict[str, AnySource]) -> AnySource | dict[str, AnySource]:
    tables = value.values() if isinstance(value, dict) else [value]
    if any(table.weight is not None for table in tables):
        raise ValueError("weight is for one of several training sources, [[data.train]]")
    return value


def _free(name: str) -> str:
    if name in TAKEN:
        raise ValueError(f"a source must not have the name of a metric, got {name!r}")
    return name


TAKEN = {
    "avg_at_k",
    "ci",
    "cons_at_k",
    "failed",
    "grader",
    "greedy",
    "no_answer",
    "pass_at_k",
    "response_length",
    "reward",
    "truncated",
}
SourceName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=60), AfterValidator(_free)]
One = Annotated[Source, AfterValidator(_single), Tag("<one>")]
TrainSources = Annotated[
    One | Annotated[list[Source], Field(min_length=1), Tag("<several>")], Discriminator(_in_a_list)
]
EvalSources = Annotated[
    One | Annotated[dict[SourceName, Source], AfterValidator(_single), Tag("<named>")], Discriminator(_by_name)
]


def sources_of(table: AnySource | list[AnySource] | dict[str, AnySource], key: str) -> dict[str, AnySource]:
    """Each source by its key in the recipe: `data.train`, `data.train.0`, `data.eval.gsm8k`."""
    if isinstance(table, list):
        table = {str(i): source for i, source in enumerate(table)}
    return {f"{key}.{name}": source for name, source in table.items()} if isinstance(table, dict) else {key: table}


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
            rows = hub_rows(
                source.name, config=source.config, split=source.split, revision=source.revision, layout=source.layout
            )
            return _published(((where, row, source.name) for where, row in rows), source, bad_rows)
        case Champ():
            return first_of_each(in_template(problem, source.template, problem.id) for problem in champ_problems())
        case ReasoningGym():
            return first_of_each(_reasoning_gym(source, derive_seed(seed, "reasoning_gym", role) % 2**31))


def _file_rows(source: File, bad_rows: BadRows) -> Iterator[tuple[str, Any, str]]:
    """(place, row, what its dataset is called if the row does not say)."""
    for path in map(Path, [source.path] if isinstance(source.path, str) else source.path):
        bad, empty = bad_rows.count, True
        for where, row in read_rows(path, partial(columns_of, layout=source.layout), bad_rows):
            empty = False
            yield where, row, name_of(path)
        if empty and bad_rows.count == bad:
            raise UserError(f"{path}: holds no rows")


def _published(rows: Iterable[tuple[str, Any, str]], source: Published, bad_rows: BadRows) -> Merged:
    layout = source.layout if isinstance(source, Rows) else None

    def problems() -> Iterator[Placed]:
        for where, row, name in rows:
            try:
                problem = to_problem(row, name, layout)
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
