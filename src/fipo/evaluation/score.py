"""`fipo eval RECIPE`: ask, grade, write down; what is written down already is not asked again."""

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import cast

from fipo import __version__
from fipo.data.problem import Problem
from fipo.errors import RunStopped, UserError
from fipo.evaluation.answers import Answer, Answerer, Asked
from fipo.evaluation.config import EvalRecipe, Server
from fipo.evaluation.local import LocalModel
from fipo.evaluation.progress import EvalProgress
from fipo.evaluation.results import (
    Address,
    Result,
    ResultsFolder,
    Sample,
    grade_of,
    key_of,
    result_of,
    sample_of,
    settings_of,
)
from fipo.evaluation.server import ServedModel
from fipo.evaluation.summary import figures_of
from fipo.evaluation.votes import votes_of
from fipo.grading.grade import Grade
from fipo.grading.outcomes import broken
from fipo.grading.workers.pool import GraderPool
from fipo.models.memory import out_of_memory
from fipo.rollout.prompts import Prompting, as_asked, on_its_day
from fipo.telemetry.run_lock import run_lock

PACKAGES = ("torch", "transformers", "mpmath")


def score(recipe: EvalRecipe) -> ResultsFolder:
    """Run the recipe to its end, on from where an earlier run of it stopped.

    Raises UserError for what the user can mend, RunStopped for an end before the end; what was written stays.
    """
    folder = ResultsFolder(recipe.output.path)
    graders = recipe.grading.pool(recipe.data.grader)
    with EvalProgress() as progress, run_lock(folder.path), graders:
        graders.start()
        recipe = dated(recipe, folder)
        answerer = make_answerer(recipe, progress.say)
        sets = answerer.problems(graders, progress.say)
        settings = settings_of(recipe, answerer)
        samples = folder.read_samples(settings)
        ids = {
            name: {key_of(problem, settings, answerer.prompt(problem)): problem for problem in problems}
            for name, problems in sets.items()
        }
        keys = {key: problem for own in ids.values() for key, problem in own.items()}
        wanted = [(key, number) for key in keys for number in range(recipe.sampling.samples)]
        missing = [address for address in wanted if address not in samples]
        known = len(wanted) - len(missing)
        if known:
            progress.say(f"{folder.path}: {known} of {len(wanted)} samples are there already")
        folder.begin(recipe, versions())
        progress.start(known, len(wanted))
        try:
            for chunk in _chunks(missing, answerer.chunk):
                asked = [(keys[key], number) for key, number in chunk]
                graded = _answered(asked, recipe.data, answerer, graders, progress)
                if not samples and (line := broken([grade for _, grade in graded])):
                    raise UserError(f"grader {recipe.data.grader!r}: {line}")
                new = {address: sample_of(*one) for address, one in zip(chunk, graded, strict=True)}
                folder.append(settings, new)
                samples |= new
                progress.answered(len(chunk))
            results = _results(keys, samples, recipe, graders)
        except KeyboardInterrupt:
            raise RunStopped(
                f"interrupted with {progress.done} of {len(wanted)} samples on disk; the same command goes on",
                exit_code=130,
            ) from None
        except (RuntimeError, MemoryError) as error:
            reason = out_of_memory(error)
            if reason is None:
                raise
            raise RunStopped(
                f"{reason}; a smaller model.decode_batch needs less memory, and the samples stay"
            ) from error
        _finish(folder, results, ids, recipe, answerer)
    return folder


def dated(recipe: EvalRecipe, folder: ResultsFolder) -> EvalRecipe:
    """The recipe with the day that chat templates see, which is one for the whole evaluation. A server has its own."""
    if recipe.server is not None:
        return recipe
    begun = folder.begun()
    return recipe.model_copy(update={"data": on_its_day(recipe.data, begun and begun.get("data", {}))})


def _finish(
    folder: ResultsFolder,
    results: Sequence[Result],
    sets: Mapping[str, Mapping[str, Problem]],
    recipe: EvalRecipe,
    answerer: Answerer,
) -> None:
    """The results in the order of the problems, and what they come to: all, and each of the `sets` by itself."""
    folder.write(results)
    by_source = {
        key.removeprefix("data.eval."): figures_of([result for result in results if result["key"] in own])
        for key, own in sets.items()
    }
    folder.write_summary(
        {
            "answered_by": answerer.identity,
            **figures_of(results),
            **({"by_source": by_source} if len(sets) > 1 else {}),
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
    return {
        "python": platform.python_version(),
        "fipo": __version__,
        **{package: version(package) for package in PACKAGES},
    }


def _chunks(addresses: Sequence[Address], size: int) -> Iterator[Sequence[Address]]:
    """What is decoded together, which can matter to the last bit.

    All of a chunk is on disk or nothing of it. So what is left after an interruption has the chunks that it had before.
    """
    return (addresses[i : i + size] for i in range(0, len(addresses), size))


def _answered(
    asked: Sequence[Asked], prompting: Prompting, answerer: Answerer, graders: GraderPool, progress: EvalProgress
) -> list[tuple[Answer, Grade]]:
    answers = answerer.answer(asked, progress.tokens)
    seen = [(as_asked(problem, prompting), number) for problem, number in asked]
    grades = graders.grade([(answer.text, problem) for answer, (problem, _) in zip(answers, seen, strict=True)])
    failed = {problem.id: grade for grade, (problem, _) in zip(grades, asked, strict=True) if grade.failed}
    for id, grade in failed.items():
        progress.say(f"problem {id}: a grade failed: {grade.outcome} ({grade.reason})")
    return list(zip(answers, grades, strict=True))


def _results(
    keys: dict[str, Problem], samples: dict[Address, Sample], recipe: EvalRecipe, graders: GraderPool
) -> list[Result]:
    """The first samples of each problem, with their votes, which depend on how many samples there are."""
    rows = [[samples[key, number] for number in range(recipe.sampling.samples)] for key in keys]
    grades = [[grade_of(sample) for sample in row] for row in rows]
    votes = votes_of(grades, graders.same)
    return [
        result_of(key, problem, row, own) for (key, problem), row, own in zip(keys.items(), rows, votes, strict=True)
    ]
