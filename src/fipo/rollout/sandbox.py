"""Chat templates are programs that come with a model: what one of their operations may make is bounded.

Python's own operations cannot be interrupted: `'x' * 10**12` would outlast any deadline in a thread.
"""

import re
from collections.abc import Callable, Iterator, Sized
from contextlib import contextmanager
from functools import wraps
from math import prod
from typing import Any

from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers.utils import chat_template_utils

LARGEST = 1_000_000  # characters or items that one operation may make, and number that it may be given
MOST_BITS = 4096  # of a whole number
WIDE = re.compile(r"(?:%[^a-zA-Z%]*|\{[^{}]*:[^{}]*)(?:\d{5}|\*|\{)")  # a format that pads to a width


class Bounded(ImmutableSandboxedEnvironment):
    """jinja's sandbox, with a limit to the size of what multiplication, powers, formats and calls make."""

    intercepted_binops = frozenset(("*", "**", "%", "+"))

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.filters = {name: _bounded(name, call) for name, call in self.filters.items()}

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if _size(operator, left, right) > LARGEST:
            raise SecurityError(f"an operation must make at most {LARGEST} characters or items, got {operator!r}")
        if _bits(operator, left, right) > MOST_BITS:
            raise SecurityError(f"a number must have at most {MOST_BITS} bits, got {operator!r} with more")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, called: Any, *args: Any, **named: Any) -> Any:
        method = getattr(called, "__wrapped__", called)  # jinja wraps str.format
        _check(getattr(method, "__name__", ""), getattr(method, "__self__", None), args, named)
        return super().call(context, called, *args, **named)


def _size(operator: str, left: Any, right: Any) -> int:
    """How much of a text or list an operation makes."""
    match operator:
        case "*" if isinstance(right, Sized):
            return len(right) * left if isinstance(left, int) else 0
        case "*" if isinstance(left, Sized):
            return len(left) * right if isinstance(right, int) else 0
        case "+" if isinstance(left, Sized) and isinstance(right, Sized):
            return len(left) + len(right)
        case "%" if isinstance(left, str) and WIDE.search(left):  # of a format
            return LARGEST + 1
    return 0


def _bits(operator: str, left: Any, right: Any) -> int:
    if not (isinstance(left, int) and isinstance(right, int)):
        return 0
    match operator:
        case "*":
            return left.bit_length() + right.bit_length()
        case "**":
            return left.bit_length() * max(right, 0)
    return 0


def _check(name: str, of: Any, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Raises SecurityError for a call such as `'x'.ljust(10**12)`: `name`, a method or filter, `of` a text or list."""
    given = (*args, *named.values())
    if any(isinstance(value, int) and abs(value) > LARGEST for value in given):
        raise SecurityError(f"a function must be given numbers up to {LARGEST}, got a larger one")
    sizes = [len(value) for value in (of, *given[-1:]) if isinstance(value, Sized)]
    if name in ("join", "replace") and len(sizes) == 2 and prod(sizes) > 100 * LARGEST:
        raise SecurityError(f"{name} must make at most {100 * LARGEST} characters, and here it could make more")
    if name in ("format", "format_map") and isinstance(of, str) and WIDE.search(of):
        raise SecurityError("a format must not pad to a width of 5 digits, or to one that it is given")


def _bounded(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """A filter, whose arguments are what is filtered and the rest: before them, some take the environment."""

    @wraps(call)
    def checked(*args: Any, **named: Any) -> Any:
        first = 1 if hasattr(call, "jinja_pass_arg") else 0
        _check(name, args[first], args[first + 1 :], named)
        return call(*args, **named)

    return checked


@contextmanager
def bounded_templates() -> Iterator[None]:
    """Inside, transformers fills templates in with this sandbox: its module's own class is replaced."""
    module: Any = chat_template_utils
    before = module.ImmutableSandboxedEnvironment
    module.ImmutableSandboxedEnvironment = Bounded
    try:
        yield
    finally:
        module.ImmutableSandboxedEnvironment = before
