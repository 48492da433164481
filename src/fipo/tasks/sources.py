"""Where problems come from: the `[data.train]` and `[data.eval]` tables of a recipe, and their loaders."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow.parquet as parquet
from pydantic import Field, PositiveInt

from fipo.errors import UserError
from fipo.seeding import derive_seed
from fipo.strict import Table
from fipo.tasks.problem import Problem
from fipo.tasks.signed_sums import signed_sums

Role = Literal["train", "eval"]


class SignedSums(Table):
    """Our own sums of signed terms; training and evaluation never share a question."""

    source: Literal["signed_sums"]
    count: PositiveInt


class File(Table):
    """A .jsonl or .parquet file in DAPO's published schema: `prompt`, `reward_model.ground_truth`, `data_source`."""

    source: Literal["file"]
    path: str


class ReasoningGym(Table):
    """A task of the reasoning-gym package by its name there (`pip install fipo[gym]`)."""

    source: Literal["reasoning_gym"]
    task: str
    count: PositiveInt
    options: dict[str, Any] = Field(default_factory=dict)
    """Passed on to the task, e.g. `{ min_terms = 3 }`."""


Source = Annotated[SignedSums | File | ReasoningGym, Field(discriminator="source")]


def load_problems(source: SignedSums | File | ReasoningGym, role: Role, seed: int) -> list[Problem]:
    """The problems of one source, in a fixed order.

    Raises UserError for a file that cannot be read, naming the file, the row and the reason.
    """
    match source:
        case SignedSums():
            return signed_sums(role, source.count, seed)
        case File():
            return [_problem(row, where) for row, where in _rows(Path(source.path))]
        case ReasoningGym():
            return _reasoning_gym(source, derive_seed(seed, "reasoning_gym", role) % 2**31)


def merge_repeats(problems: list[Problem]) -> list[Problem]:
    """Each question once, at its first place.

    Raises UserError if one question has two answers, or one id two questions.
    """
    by_text: dict[str, Problem] = {}
    by_id: dict[str, Problem] = {}
    for problem in problems:
        twin = by_text.setdefault(problem.text, problem)
        if twin.answer != problem.answer:
            raise UserError(
                f"data: a question must have one answer, got {twin.answer!r} ({twin.id}) and "
                f"{problem.answer!r} ({problem.id}) for {problem.text[:80]!r}"
            )
        namesake = by_id.setdefault(problem.id, problem)
        if namesake.text != problem.text:
            raise UserError(f"data: an id must name one question, got two for {problem.id!r}")
    return list(by_text.values())


def without(problems: list[Problem], held_out: list[Problem]) -> list[Problem]:
    """The problems whose question is not among the held-out ones."""
    texts = {problem.text for problem in held_out}
    return [problem for problem in problems if problem.text not in texts]


def _rows(path: Path) -> Iterator[tuple[Any, str]]:
    """Each row with the place to name if it is malformed."""
    if not path.is_file():
        raise UserError(f"data: no such file: {path}")
    if path.suffix == ".parquet":
        yield from _parquet_rows(path)
    elif path.suffix == ".jsonl":
        yield from _jsonl_rows(path)
    else:
        raise UserError(f"data: a file must end in .jsonl or .parquet, got {path}")


def _parquet_rows(path: Path) -> Iterator[tuple[Any, str]]:
    """In batches: the published DAPO file has 1.8 million rows."""
    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield row, f"{path}, row {number}"
    except (OSError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise UserError(f"{path}: not readable as parquet after row {number}: {reason}") from None


def _jsonl_rows(path: Path) -> Iterator[tuple[Any, str]]:
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            json.dumps(row, ensure_ascii=False).encode()  # "\ud800" parses, but no tokenizer or file takes it
        except RecursionError:
            raise UserError(f"{path}, line {number}: nested too deeply") from None
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not JSON text: {error}") from None
        yield row, f"{path}, line {number}"


def _problem(row: Any, where: str) -> Problem:
    """A row of DAPO's schema as a Problem."""
    if not isinstance(row, dict):
        raise UserError(f"{where}: a row must be an object, got {type(row).__name__}")
    prompt = row.get("prompt")
    if isinstance(prompt, list):
        well_formed = all(
            isinstance(m, dict) and isinstance(m.get("role"), str) and isinstance(m.get("content"), str) for m in prompt
        )
        if not well_formed:
            raise UserError(f"{where}: each message of prompt must have a role and a content, got {prompt!r:.80}")
        prompt = [{"role": m["role"], "content": m["content"]} for m in prompt]
    elif not isinstance(prompt, str):
        raise UserError(f"{where}: prompt must be a text or a list of messages, got {prompt!r:.80}")
    reward_model = row.get("reward_model")
    answer = reward_model.get("ground_truth") if isinstance(reward_model, dict) else None
    if not isinstance(answer, str | int | float) or isinstance(answer, bool):
        raise UserError(f"{where}: reward_model.ground_truth must be a text or a number, got {answer!r:.80}")
    source = row.get("data_source") or "unnamed"
    extra = row.get("extra_info")
    index = extra.get("index") if isinstance(extra, dict) else None
    problem = Problem(id="", prompt=prompt, answer=str(answer), source=str(source))
    if not problem.text.strip():
        raise UserError(f"{where}: prompt must not be empty")
    identity = index if index is not None else f"{derive_seed(0, problem.text):016x}"
    return Problem(id=f"{source}/{identity}", prompt=prompt, answer=str(answer), source=str(source))


def _reasoning_gym(source: ReasoningGym, seed: int) -> list[Problem]:
    try:
        import reasoning_gym
    except ImportError:
        raise UserError('data: source "reasoning_gym" needs the extra: pip install "fipo[gym]"') from None
    try:
        entries = reasoning_gym.create_dataset(source.task, size=source.count, seed=seed, **source.options)
    except (ValueError, TypeError, AssertionError) as error:
        raise UserError(f"data: reasoning_gym refuses task {source.task!r}: {error}") from None
    return [
        Problem(
            id=f"{source.task}/{derive_seed(0, entry['question']):016x}",
            prompt=entry["question"],
            answer=str(entry["answer"]),
            source=f"reasoning_gym/{source.task}",
        )
        for entry in entries
    ]
