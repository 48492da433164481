"""Graders: a response and its problem in, a typed outcome out. None of them executes what the model wrote."""

import importlib
import re
from decimal import Context, Decimal
from typing import Annotated

from pydantic import AfterValidator

from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.grading.answers.dapo import last_answer, normalise
from fipo.grading.grade import Grade, Grader, Outcome

__all__ = ["GRADERS", "Grade", "Grader", "GraderName", "Outcome", "resolve"]

# Bounded on purpose: a million digits are no number of ours, and cost no time. A comma belongs to a number
# only before exactly three digits, so that `1,000` is one number and `1,2` are two.
NUMBER = re.compile(
    r"(?<![0-9.])(?:(?<![\w)\]])-)?"
    r"(?:[0-9]{1,3}(?:,[0-9]{3}){1,12}(?![0-9])|[0-9]{1,40})(?:\.[0-9]{1,40})?(?![0-9])"
)
EXACT = Context(prec=100)  # more digits than NUMBER reads, so that nothing is rounded


def grade_number(response: str, problem: Problem) -> Grade:
    """The last number in the response, by value: `12.50` equals `12.5`, `1,000` equals `1000`."""
    expected = _last_number(problem.answer)
    found = _last_number(response)
    return _compare(found, expected)


def grade_exact(response: str, problem: Problem) -> Grade:
    """The whole response, white space at its ends aside."""
    return _compare(response.strip() or None, problem.answer.strip())


def grade_dapo(response: str, problem: Problem) -> Grade:
    """DAPO's published rule: the last `Answer:` line in the final 300 characters, normalised as text."""
    found = last_answer(response)
    return _compare(None if found is None else normalise(found), normalise(problem.answer))


GRADERS: dict[str, Grader] = {"number": grade_number, "exact": grade_exact, "dapo": grade_dapo}
IMPORTED = {  # when they are used: what they need takes a second to import
    "math": "fipo.grading.answers.math:grade_math",
    "countdown": "fipo.data.made.countdown:grade_countdown",
    "relay": "fipo.data.made.relay:grade_relay",
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


def _last_number(text: str) -> str | None:
    """`-1,000.50` as `-1000.5`, and `-0` as `0`; None without a number. The minus sign U+2212 is one, too."""
    text = text.replace("\u2212", "-")
    found = NUMBER.findall(_ending(text)) or NUMBER.findall(text)
    return f"{EXACT.plus(Decimal(found[-1].replace(',', ''))).normalize(EXACT):f}" if found else None


def _ending(text: str) -> str:
    """The end of a long text, cut at a space: no number goes across it, so the last number in it is the text's."""
    return text[max(text.find(" ", max(len(text) - 200, 0)), 0) :]


def _compare(found: str | None, expected: str | None) -> Grade:
    if found is None:
        return Grade(outcome="no_answer", answer=None)
    return Grade(outcome="correct" if found == expected else "wrong", answer=found)
