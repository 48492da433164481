"""A limit in time and memory for code that is not ours."""

import ctypes
import resource
import sys
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
MOST_MEMORY = 1 << 29  # bytes by which the process may grow meanwhile
POLL_SECONDS = 0.05


def within(seconds: float, compute: Callable[[], T]) -> T:
    """What `compute` returns or raises. Raises TimeoutError if it is slower or fills the memory.

    It is stopped then, unless it never comes back from one operation of Python.
    """
    result: list[T] = []
    raised: list[Exception] = []

    def run() -> None:
        try:
            result.append(compute())
        except Exception as error:
            raised.append(error)
        except SystemExit:
            pass  # stopped

    thread = threading.Thread(target=run, daemon=True)
    end, limit = time.monotonic() + seconds, _most_used() + MOST_MEMORY
    thread.start()
    while thread.is_alive() and time.monotonic() < end and _most_used() < limit:
        thread.join(min(POLL_SECONDS, seconds))
    if thread.is_alive():
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))
        raise TimeoutError
    if raised:
        raise raised[0]
    return result[0]


def _most_used() -> int:
    """Bytes of memory that the process has had at most."""
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024
