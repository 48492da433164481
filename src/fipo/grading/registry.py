"""Graders by name: ours, and the user's own functions and objects. None of ours executes what the model wrote."""

import importlib
import os
import re
from typing import Annotated

from pydantic import AfterValidator

from fipo.errors import UserError
from fipo.extras import install_hint
from fipo.grading.answers.countdown import grade_countdown
from fipo.grading.answers.dapo import grade_dapo
from fipo.grading.answers.exact import grade_exact
from fipo.grading.answers.gym import grade_reasoning_gym
from fipo.grading.answers.math import grade_math
from fipo.grading.answers.number import grade_number
from fipo.grading.answers.relay import grade_relay
from fipo.grading.function import FunctionGrader
from fipo.grading.grade import Grade, Outcome
from fipo.grading.grader import Grader
from fipo.modules import source_sha256
from fipo.recipe.table import did_you_mean

__all__ = ["GRADERS", "Grade", "Grader", "GraderName", "Outcome", "resolve"]

GRADERS: dict[str, Grader] = {
    grader.name: grader
    for grader in (grade_number, grade_exact, grade_dapo, grade_math, grade_countdown, grade_relay, grade_reasoning_gym)
}
MODULE_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def _known(name: str) -> str:
    if name not in GRADERS and not MODULE_FUNCTION.fullmatch(name):
        known = ", ".join(GRADERS)
        raise ValueError(f"must be one of {known} or module:function, got {name!r}{did_you_mean(name, GRADERS)}")
    return name


GraderName = Annotated[str, AfterValidator(_known)]
"""The name of a grader in a recipe: one of ours, or `module:function` for the user's own."""


def resolve(name: str) -> Grader:
    """The grader of that name, with everything imported that it needs.

    The user's `module:function` is a `FunctionGrader`'s; what stands there may be a Grader, too. Raises UserError for a
    name that is none, or whose module or function cannot be had.

    >>> from fipo.data.problem import Problem
    >>> grade = resolve("math")(r"\\boxed{0.5}", Problem(id="1", prompt="", answer="1/2", source="mine"))
    >>> grade.outcome, grade.answer
    ('correct', '0.5')
    """
    try:
        _known(name)
    except ValueError as error:
        raise UserError(f"grader: {error}") from None
    grader = GRADERS.get(name) or _imported(name)
    try:
        grader.load()
    except ImportError as error:
        need = (
            f"another package: {install_hint(grader.extra)}"
            if grader.extra
            else f"what cannot be imported: {_line(error)}"
        )
        raise UserError(f"grader {name!r} needs {need}") from None
    return grader


def source_of(name: str) -> str | None:
    """SHA-256 of the source of a grader of the user's, which `resolve` has imported; None of one of ours."""
    return None if name in GRADERS else source_sha256(name.partition(":")[0])


def _imported(name: str) -> Grader:
    module_name, attribute = name.split(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        nowhere = isinstance(error, ModuleNotFoundError) and module_name.startswith(str(error.name))
        where = f"; it is looked for beside the recipe and in {os.getcwd()}" if nowhere else ""
        raise UserError(f"grader {name!r}: cannot import {module_name!r}: {_line(error)}{where}") from None
    except (Exception, SystemExit) as error:
        raise UserError(f"grader {name!r}: importing {module_name!r} raised {_line(error)}") from None
    found = getattr(module, attribute, None)
    if isinstance(found, Grader):
        return found
    if not callable(found):
        hint = did_you_mean(attribute, vars(module))
        raise UserError(f"grader {name!r}: module {module_name!r} has no function {attribute!r}{hint}")
    return FunctionGrader(name, found)


def _line(error: BaseException) -> str:
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
