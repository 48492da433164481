"""The folder of an evaluation: graded samples as they come; at the end the results, and what they come to.

samples.jsonl   every sample that was ever asked for here, a line for those that were asked together
results.jsonl   an object per problem: key, id, source, prompt, expected and its samples with their votes
summary.json    every estimate with its interval; who answered, the recipe, the versions
config.toml     the recipe with every value that was used; `fipo eval config.toml` takes it
"""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import UnionType
from typing import Any

import tomli_w

from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.evaluation.answers import Answer, Answerer
from fipo.evaluation.config import EvalRecipe
from fipo.grading.grade import Grade
from fipo.rollout.prompts import Prompting
from fipo.telemetry.durable import append_line, replace_file
from fipo.telemetry.lines import parse_line, whole_lines

Address = tuple[str, int]  # of a sample: the key of its problem, and its number from 0
Sample = dict[str, Any]  # an answer and its grade
Result = dict[str, Any]  # a line of results.jsonl
Shape = dict[str, type | UnionType]  # keys that an object has, and what stands there

LINE: Shape = {"settings": str, "samples": list}
ADDRESSED: Shape = {"key": str, "number": int, "sample": dict}
SAMPLE: Shape = {
    "text": str,
    "tokens": int,
    "truncated": bool,
    "seed": int,
    "answer": str | None,
    "outcome": str,
    "correct": bool,
}
RESULT: Shape = {"key": str, "id": str, "prompt": object, "expected": object, "samples": list}
IDENTITIES: tuple[Shape, ...] = ({"path": str, "sha256": str, "dtype": str}, {"model": str, "url": str})
VOTED: Shape = {"correct": bool, "vote": int | None}


class ResultsFolder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.samples = path / "samples.jsonl"
        self.results = path / "results.jsonl"
        self.summary = path / "summary.json"
        self.config = path / "config.toml"

    @classmethod
    def finished(cls, path: Path) -> "ResultsFolder":
        """The evaluation at `path`. Raises UserError if there is none, or it has not come to its end."""
        folder = cls(path)
        if not (folder.results.is_file() or folder.samples.is_file()):
            raise UserError(f"{path}: holds no evaluation (it has no {folder.results.name})")
        if not (folder.results.is_file() and folder.summary.is_file()):
            raise UserError(f"{path}: this evaluation is not finished; run the command that began it again")
        return folder

    def read_samples(self, settings: str) -> dict[Address, Sample]:
        """Those that are there, all of which have these settings.

        Raises UserError if they have others, if something else is there, and for a damaged line.
        """
        if not self.samples.exists():
            if self.results.exists():
                raise UserError(f"{self.path}: an older version evaluated here; choose another --output.name")
            if self.config.exists():
                raise UserError(
                    f"{self.path}: something else than an evaluation is there; choose another --output.name"
                )
            return {}
        lines = _read(self.samples, LINE)
        for number, line in enumerate(lines, start=1):
            if not all(_has(one, ADDRESSED) and _has(one["sample"], SAMPLE) for one in line["samples"]):
                raise UserError(f"{self.samples}, line {number}: damaged: a sample of it lacks what every one has")
        if any(line["settings"] != settings for line in lines):
            raise UserError(
                f"{self.path}: its samples are of another model, grader, prompt format or [sampling]; "
                "choose another --output.name"
            )
        return {(one["key"], one["number"]): one["sample"] for line in lines for one in line["samples"]}

    def begun(self) -> dict[str, Any] | None:
        """The recipe of the evaluation that goes on here, None if there is none. Raises UserError if it is damaged."""
        if not (self.samples.exists() and self.config.exists()):
            return None
        try:
            return tomllib.loads(self.config.read_text(encoding="utf-8"))
        except ValueError as error:
            raise UserError(f"{self.config}: damaged: {error}") from None

    def begin(self, recipe: EvalRecipe, versions: dict[str, str]) -> None:
        """From now on the folder is that of this recipe. Samples that were written whole stay, results go."""
        whole = whole_lines(self.samples) if self.samples.exists() else []
        replace_file(self.samples, b"".join(line + b"\n" for line in whole))
        self.summary.unlink(missing_ok=True)
        self.results.unlink(missing_ok=True)
        config = {**recipe.model_dump(exclude_none=True), "versions": versions}
        replace_file(self.config, tomli_w.dumps(config).encode())

    def append(self, settings: str, samples: Mapping[Address, Sample]) -> None:
        """More samples, on disk when this returns: all of them or, whatever happens, none."""
        listed = [{"key": key, "number": number, "sample": sample} for (key, number), sample in samples.items()]
        append_line(self.samples, _line({"settings": settings, "samples": listed}))

    def read(self) -> list[Result]:
        """Raises UserError naming the file and the line that is damaged."""
        results = _read(self.results, RESULT)
        for number, result in enumerate(results, start=1):
            if not result["samples"] or not all(_has(sample, VOTED) for sample in result["samples"]):
                raise UserError(f"{self.results}, line {number}: damaged: a sample of it lacks what every one has")
        return results

    def read_summary(self) -> dict[str, Any]:
        """Raises UserError if it is damaged."""
        try:
            summary = json.loads(self.summary.read_bytes())
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.summary}: damaged: {error}") from None
        if (
            not _has(summary, {"answered_by": dict, "recipe": dict})
            or not _has(summary["recipe"], {"data": dict, "sampling": dict})
            or not any(_has(summary["answered_by"], who) for who in IDENTITIES)
        ):
            raise UserError(f"{self.summary}: damaged: it lacks what every summary has")
        return dict(summary)

    def write(self, results: Sequence[Result]) -> None:
        replace_file(self.results, "".join(_line(result) + "\n" for result in results).encode())

    def write_summary(self, summary: dict[str, Any]) -> None:
        text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
        replace_file(self.summary, text.encode())


def settings_of(recipe: EvalRecipe, answerer: Answerer) -> str:
    """SHA-256 of all that decides a sample and its grade, but the problem and the sample's number."""
    identity = answerer.identity
    model = {k: identity[k] for k in ("sha256", "dtype", "url", "model") if k in identity}  # wherever it lies
    sampling = recipe.sampling.model_dump(exclude={"preset", "samples", "max_prompt_tokens"})
    prompting = recipe.data.model_dump(include=set(Prompting.model_fields), exclude_none=True)
    return _sha256([model, prompting, recipe.data.grader, sampling])


def key_of(problem: Problem, settings: str, prompt: str | None) -> str:
    """SHA-256 of all that decides a problem's samples: the same key and number, the same sample.

    prompt: as an Answerer tells it.
    """
    return _sha256([settings, asdict(problem)] if prompt is None else [settings, asdict(problem), prompt])


def sample_of(answer: Answer, grade: Grade) -> Sample:
    return {
        "text": answer.text,
        "tokens": answer.tokens,
        "truncated": answer.truncated,
        "seed": answer.seed,
        "answer": grade.answer,
        "outcome": grade.outcome,
        "correct": grade.correct,
    } | {name: value for name in ("reason", "score") if (value := getattr(grade, name)) is not None}


def grade_of(sample: Sample) -> Grade:
    return Grade(
        outcome=sample["outcome"], answer=sample["answer"], reason=sample.get("reason"), score=sample.get("score")
    )


def result_of(key: str, problem: Problem, samples: Sequence[Sample], votes: Sequence[int | None]) -> Result:
    return {
        "key": key,
        "id": problem.id,
        "source": problem.source,
        "prompt": problem.prompt,
        "expected": problem.answer,
        "samples": [sample | {"vote": vote} for sample, vote in zip(samples, votes, strict=True)],
    }


def _sha256(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _read(path: Path, shape: Shape) -> list[dict[str, Any]]:
    """The lines that were written whole. Raises UserError for one that is damaged or has another shape."""
    lines = [parse_line(path, number, line) for number, line in enumerate(whole_lines(path), start=1)]
    for number, line in enumerate(lines, start=1):
        if not _has(line, shape):
            raise UserError(f"{path}, line {number}: damaged: it lacks keys that every line has")
    return lines


def _has(value: Any, shape: Shape) -> bool:
    return isinstance(value, dict) and all(key in value and isinstance(value[key], kind) for key, kind in shape.items())


def _line(content: dict[str, Any]) -> str:
    return json.dumps(content, allow_nan=False)  # ASCII: a lone surrogate in a response can be written, too
