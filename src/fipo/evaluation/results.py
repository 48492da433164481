"""The folder of an evaluation: one line per problem as it is answered, then a summary.

results.jsonl   an object per problem: key, id, source, expected, prompt and its samples
summary.json    every estimate with its interval; who answered, the recipe, the versions
config.toml     the recipe with every value that was used; `fipo eval config.toml` takes it
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tomli_w

from fipo.errors import UserError
from fipo.evaluation.answers import Answer, Answerer
from fipo.evaluation.config import EvalRecipe
from fipo.rollout.prompts import Prompting
from fipo.tasks.grade import Grade
from fipo.tasks.problem import Problem
from fipo.telemetry.durable import append_line, replace_file

Result = dict[str, Any]  # a line of results.jsonl


class ResultsFolder:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.results = path / "results.jsonl"
        self.summary = path / "summary.json"
        self.config = path / "config.toml"

    @classmethod
    def finished(cls, path: Path) -> "ResultsFolder":
        """The evaluation at `path`. Raises UserError if there is none, or it has not come to its end."""
        folder = cls(path)
        if not folder.results.is_file():
            raise UserError(f"{path}: holds no evaluation (it has no {folder.results.name})")
        if not folder.summary.is_file():
            raise UserError(f"{path}: this evaluation is not finished; run the command that began it again")
        return folder

    def read(self) -> list[Result]:
        """The lines that were written whole: a killed process can leave half of one at the end.

        Raises UserError naming the file and the line that is damaged otherwise.
        """
        if not self.results.is_file():
            return []
        results = []
        for number, line in enumerate(self.results.read_bytes().split(b"\n")[:-1], start=1):
            try:
                result = json.loads(line)
                if not {"key", "id", "expected", "samples"} <= result.keys():
                    raise ValueError("it lacks keys that every line has")
            except (ValueError, AttributeError) as error:
                raise UserError(f"{self.results}, line {number}: damaged: {error}") from None
            results.append(result)
        return results

    def read_summary(self) -> dict[str, Any]:
        try:
            summary = json.loads(self.summary.read_bytes())
            return dict(summary)
        except ValueError as error:
            raise UserError(f"{self.summary}: damaged: {error}") from None

    def append(self, result: Result) -> None:
        """One more line, on disk when this returns."""
        append_line(self.results, _line(result))

    def write(self, results: Sequence[Result]) -> None:
        replace_file(self.results, "".join(_line(result) + "\n" for result in results).encode())

    def write_summary(self, summary: dict[str, Any]) -> None:
        text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
        replace_file(self.summary, text.encode())

    def write_config(self, recipe: EvalRecipe, versions: dict[str, str]) -> None:
        config = {**recipe.model_dump(exclude_none=True), "versions": versions}
        replace_file(self.config, tomli_w.dumps(config).encode())


def key_of(problem: Problem, recipe: EvalRecipe, answerer: Answerer) -> str:
    """SHA-256 of all that decides the result of a problem: the same key, the same result."""
    identity = answerer.identity
    model = {k: identity[k] for k in ("sha256", "dtype", "url", "model") if k in identity}  # wherever it lies
    sampling = recipe.sampling.model_dump(exclude={"preset", "max_prompt_tokens"})
    prompting = recipe.data.model_dump(include=set(Prompting.model_fields))
    asked = [model, prompting, recipe.data.grader, sampling, asdict(problem)]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()


def result_of(
    key: str, problem: Problem, answers: Sequence[Answer], grades: Sequence[Grade], votes: Sequence[int | None]
) -> Result:
    samples = [
        {
            "text": answer.text,
            "tokens": answer.tokens,
            "truncated": answer.truncated,
            "seed": answer.seed,
            "answer": grade.answer,
            "outcome": grade.outcome,
            "correct": grade.correct,
            "vote": vote,
        }
        | ({"reason": grade.reason} if grade.reason else {})
        for answer, grade, vote in zip(answers, grades, votes, strict=True)
    ]
    return {
        "key": key,
        "id": problem.id,
        "source": problem.source,
        "prompt": problem.prompt,
        "expected": problem.answer,
        "samples": samples,
    }


def _line(result: Result) -> str:
    return json.dumps(result, allow_nan=False)  # ASCII: a lone surrogate in a response can be written, too
