"""`fipo eval RECIPE`: ask, grade, write down; what is written down already is not asked again."""

import platform
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import cast

import torch

from fipo.errors import RunStopped, UserError
from fipo.evaluation.answers import Answerer
from fipo.evaluation.config import EvalRecipe, Server
from fipo.evaluation.local import LocalModel
from fipo.evaluation.progress import EvalProgress
from fipo.evaluation.results import Result, ResultsFolder, key_of, result_of
from fipo.evaluation.server import ServedModel
from fipo.evaluation.summary import figures_of
from fipo.evaluation.votes import votes_of
from fipo.tasks.grading_pool import GraderPool
from fipo.tasks.problem import Problem
from fipo.telemetry.run_lock import run_lock

PACKAGES = ("fipo", "torch", "transformers", "math-verify")


def score(recipe: EvalRecipe) -> ResultsFolder:
    """Run the recipe to its end, on from where an earlier run of it stopped.

    Raises UserError for what the user can mend, RunStopped for an end before the end; what was written stays.
    """
    folder = ResultsFolder(recipe.output.path)
    graders = recipe.grading.pool(recipe.data.grader)
    with EvalProgress() as progress, run_lock(folder.path), graders:
        graders.start()
        answerer = make_answerer(recipe, progress.say)
        problems = answerer.problems(progress.say)
        keys = {problem.id: key_of(problem, recipe, answerer) for problem in problems}
        known = _known(folder, keys)
        if known:
            progress.say(f"{folder.path}: {len(known)} of {len(problems)} problems are answered already")
        folder.write(list(known.values()))
        folder.summary.unlink(missing_ok=True)
        folder.write_config(recipe, versions())
        progress.start(len(known), len(problems))
        try:
            for chunk in _chunks(problems, answerer.chunk):
                missing = [problem.id for problem in chunk if problem.id not in known]
                if not missing:
                    continue
                # The whole chunk again, as what is decoded together can matter to the last bit.
                for result in _answered(chunk, keys, recipe, answerer, graders, progress):
                    if result["id"] in missing:
                        folder.append(result)
                        known[result["id"]] = result
                progress.answered(len(missing))
        except KeyboardInterrupt:
            raise RunStopped(
                f"interrupted with {len(known)} of {len(problems)} problems answered; the same command goes on",
                exit_code=130,
            ) from None
        except torch.OutOfMemoryError as error:
            raise RunStopped(
                f"{str(error).split('. ')[0]}; a smaller model.decode_batch needs less memory, and the results stay"
            ) from error
        _finish(folder, [known[problem.id] for problem in problems], recipe, answerer)
    return folder


def _finish(folder: ResultsFolder, results: Sequence[Result], recipe: EvalRecipe, answerer: Answerer) -> None:
    """The results in the order of the problems, and what they come to."""
    folder.write(results)
    folder.write_summary(
        {
            "answered_by": answerer.identity,
            **figures_of(results),
            "recipe": recipe.model_dump(exclude_none=True),
            "versions": versions(),
        }
    )


def make_answerer(recipe: EvalRecipe, say: Callable[[str], None]) -> Answerer:
    """The model or the server of the recipe. Raises UserError if it cannot be had."""
    if recipe.model is not None:
        return LocalModel(recipe, recipe.model, say)
    return ServedModel(recipe, cast(Server, recipe.server))  # a recipe has one of the two


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}}


def _known(folder: ResultsFolder, keys: dict[str, str]) -> dict[str, Result]:
    """The results that are there already, by problem. Raises UserError for those of another evaluation."""
    if folder.config.exists() and not folder.results.exists():
        raise UserError(f"{folder.path}: something else than an evaluation is there; choose another --output.name")
    results = folder.read()
    foreign = sum(keys.get(result["id"]) != result["key"] for result in results)
    if foreign:
        raise UserError(
            f"{folder.path}: {foreign} of its {len(results)} results are of another model, data, sampling or grader; "
            "choose another --output.name"
        )
    return {result["id"]: result for result in results}


def _chunks(problems: Sequence[Problem], size: int) -> list[Sequence[Problem]]:
    return [problems[i : i + size] for i in range(0, len(problems), size)]


def _answered(
    chunk: Sequence[Problem],
    keys: dict[str, str],
    recipe: EvalRecipe,
    answerer: Answerer,
    graders: GraderPool,
    progress: EvalProgress,
) -> list[Result]:
    answers = answerer.answer(chunk, progress.tokens)
    asked = [(answer.text, problem) for problem, row in zip(chunk, answers, strict=True) for answer in row]
    flat, n = graders.grade(asked), recipe.sampling.samples
    grades = [flat[i * n : (i + 1) * n] for i in range(len(chunk))]
    votes = votes_of(chunk, grades, recipe.data.grader, graders.grade)
    for problem, row in zip(chunk, grades, strict=True):
        failed = next((grade for grade in row if grade.failed), None)
        if failed is not None:
            progress.say(f"problem {problem.id}: a grade failed: {failed.outcome} ({failed.reason})")
    return [
        result_of(keys[problem.id], problem, *rows)
        for problem, rows in zip(chunk, zip(answers, grades, votes, strict=True), strict=True)
    ]
