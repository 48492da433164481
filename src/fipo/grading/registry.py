"""Graders: a response and its problem in, a typed outcome out. None of them executes what the model wrote."""

import importlib
import re
from typing import Annotated

from pydantic import AfterValidator

from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.grading.answers.dapo import grade_dapo
from fipo.grading.answers.exact import grade_exact
from fipo.grading.answers.number import grade_number
from fipo.grading.grade import Grade, Grader, Outcome

__all__ = ["GRADERS", "Grade", "Grader", "GraderName", "Outcome", "resolve"]

GRADERS: dict[str, Grader] = {"number": grade_number, "exact": grade_exact, "dapo": grade_dapo}
IMPORTED = {  # when they are used: what they need takes a second to import
    "math": "fipo.grading.answers.math:grade_math",
    "countdown": "fipo.grading.answers.countdown:grade_countdown",
    "reasoning_gym": "fipo.grading.answers.gym:grade_reasoning_gym",
}
NEEDED = {"math": "pip install math-verify", "reasoning_gym": 'pip install "fipo[gym]"'}
MODULE_FUNCTION = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def _known(name: str) -> str:
    if name not in GRADERS and name not in IMPORTED and not MODULE_FUNCTION.fullmatch(name):
        choices = ", ".join([*GRADERS, *IMPORTED])
        raise ValueError(f"must be one of {choices} or module:function, got {name!r}")
    return name


GraderName = Annotated[str, AfterValidator(_known)]
"""The name of a grader in a recipe: one of ours, or `module:function` for the user's own."""


def resolve(name: str) -> Grader:
    """The grader of that name, imported now if need be.

    The user's `module:function` is called as `function(response, problem)` and returns a Grade, or a bool for
    correct or wrong. Raises UserError for a name that is none, or whose module or function cannot be had.
    """
    try:
        _known(name)
    except ValueError as error:
        raise UserError(f"grader: {error}") from None
    if name in GRADERS:
        return GRADERS[name]
    function = _imported(name)
    return function if name in IMPORTED else _checked(function, name)


def _imported(name: str) -> Grader:
    module_name, function_name = IMPORTED.get(name, name).split(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        if name in NEEDED:
            raise UserError(f"grader {name!r} needs another package: {NEEDED[name]}") from None
        raise UserError(f"grader {name!r}: cannot import {module_name!r}: {_line(error)}") from None
    except (Exception, SystemExit) as error:
        raise UserError(f"grader {name!r}: importing {module_name!r} raised {_line(error)}") from None
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UserError(f"grader {name!r}: module {module_name!r} has no function {function_name!r}")
    return function


def _checked(function: Grader, name: str) -> Grader:
    """The user's function as a grader, whatever it returns."""

    def grade(response: str, problem: Problem) -> Grade:
        result: object = function(response, problem)
        if isinstance(result, bool):
            return Grade(outcome="correct" if result else "wrong", answer=None)
        if isinstance(result, Grade):
            return result
        raise TypeError(f"grader {name!r} must return a Grade or a bool, got {type(result).__name__}: {result!r:.80}")

    return grade


def _line(error: BaseException) -> str:
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
