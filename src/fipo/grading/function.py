"""A user's own function as a grader: what it is called with, and what it may return."""

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

from fipo.data.problem import Problem
from fipo.grading.grade import Grade
from fipo.grading.grader import Grader

RIGHT = 1.0  # a number from here on counts as right, in accuracy, avg@k and pass@k
NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


class FunctionGrader(Grader):
    """function(response, problem), which returns a bool, a number or a Grade; or a reward function as TRL has them.

    One of TRL's is told by its parameter `completions`: it is called by names with lists of one entry, `completions`,
    `prompts`, `answer` and the problem's metadata (the further columns of its row), and returns a list of one number.
    """

    reads_thoughts = True

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self._function = function
        self._parameters = _parameters(function)

    def grade(self, response: str, problem: Problem) -> Grade:
        """Raises TypeError or ValueError if the function returns anything else, or asks for what there is not."""
        if "completions" in self._parameters:
            return self._by_number(self._rewarded(response, problem))
        result = _plain(self._function(response, problem))
        if isinstance(result, bool):
            return Grade(outcome="correct" if result else "wrong", answer=None)
        if isinstance(result, int | float):
            return self._by_number(result)
        if isinstance(result, Grade):
            return result
        raise TypeError(f"grader {self.name!r} must return a bool, a number or a Grade, got {_shown(result)}")

    def _by_number(self, number: float) -> Grade:
        if not math.isfinite(number):
            raise ValueError(f"grader {self.name!r} must return a finite number, got {number}")
        return Grade(outcome="correct" if number >= RIGHT else "wrong", answer=None, score=float(number))

    def _rewarded(self, response: str, problem: Problem) -> float:
        """What a function of TRL's says; its None, "not mine", adds nothing."""
        chat = isinstance(problem.prompt, list)
        completion = [{"role": "assistant", "content": response}] if chat else response
        columns = {**problem.metadata, "answer": problem.answer, "prompts": problem.prompt, "completions": completion}
        rewards = self._function(**{name: [value] for name, value in self._asked(columns).items()})
        rewards = rewards.tolist() if hasattr(rewards, "tolist") else rewards
        one = isinstance(rewards, list | tuple) and len(rewards) == 1
        reward = _plain(rewards[0]) if one else rewards
        if one and reward is None:
            return 0.0
        if not one or not isinstance(reward, int | float):
            raise TypeError(f"grader {self.name!r} must return a list of a number each, got {_shown(rewards)}")
        return reward

    def _asked(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        """Those of the columns that the function takes."""
        missing = [
            name
            for name, parameter in self._parameters.items()
            if parameter.kind in NAMED and parameter.default is parameter.empty and name not in columns
        ]
        if missing:
            there = ", ".join(name for name in columns if name not in ("prompts", "completions"))
            raise TypeError(
                f"grader {self.name!r} needs the column {missing[0]!r}, and the problem has {there}: "
                f'name it in the columns of the source, {missing[0]} = "..."'
            )
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in self._parameters.values()):
            return columns
        return {name: value for name, value in columns.items() if name in self._parameters}


def _parameters(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(function).parameters
    except (TypeError, ValueError):  # of some written in C
        return {}


def _plain(value: Any) -> Any:
    """A scalar of numpy or torch as Python's own."""
    return value.item() if getattr(value, "shape", None) == () and hasattr(value, "item") else value


def _shown(value: Any) -> str:
    return f"{type(value).__name__}: {value!r:.80}"
