"""A function of the user's in place of a surrogate."""

import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from fipo.objective.config import FIPOConfig
from fipo.objective.surrogates.base import Surrogate, Tokens

LossFunction = Callable[[Tokens, FIPOConfig], Tensor]


@dataclass(frozen=True, kw_only=True)
class Custom(Surrogate):
    """l = function(tokens, cfg), [B, T] with the graph. Errors: ValueError for another shape."""

    function: LossFunction

    name: ClassVar[str] = "custom"

    def losses(self, tokens: Tokens, cfg: FIPOConfig) -> Tensor:
        losses = self.function(tokens, cfg)
        if losses.shape != tokens.log_ratio.shape:
            raise ValueError(
                f"a surrogate must return losses of shape {list(tokens.log_ratio.shape)}, got {list(losses.shape)}"
            )
        return losses


def imported(name: str) -> LossFunction:
    """The function called `module:function`, of a module that is installed or in the working directory.

    Errors: ValueError, one line, for a name of another form and for what cannot be had.
    """
    module_name, colon, function_name = name.partition(":")
    if not (colon and function_name.isidentifier() and all(part.isidentifier() for part in module_name.split("."))):
        raise ValueError(f"surrogate must be module:function, got {name!r}")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # last, so that it hides none of the installed ones
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        first = next(iter(str(error).splitlines()), "")
        raise ValueError(
            f"surrogate {name!r}: importing {module_name!r} raised {type(error).__name__}: {first}"
        ) from None
    function = getattr(module, function_name, None)
    if not callable(function):
        raise ValueError(f"surrogate {name!r}: module {module_name!r} has no function {function_name!r}")
    loss: LossFunction = function
    return loss
