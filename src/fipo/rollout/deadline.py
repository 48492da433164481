"""A limit in time for code that is not ours."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def within(seconds: float, compute: Callable[[], T]) -> T:
    """What `compute` returns or raises. Raises TimeoutError if it takes longer: it is left alone then."""
    result: list[T] = []
    raised: list[Exception] = []

    def run() -> None:
        try:
            result.append(compute())
        except Exception as error:
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError
    if raised:
        raise raised[0]
    return result[0]
