"""A function over many inputs in a few threads, which no interruption has to wait for."""

import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

Input = TypeVar("Input")
Output = TypeVar("Output")


def in_parallel(
    function: Callable[[Input], Output],
    inputs: Sequence[Input],
    workers: int,
    on_result: Callable[[Output], None] = lambda _: None,
) -> list[Output]:
    """`[function(x) for x in inputs]`, `workers` at a time; `on_result` is called here with each as it comes.

    The first exception is raised here, Ctrl-C as well; what has begun then ends unheard, what has not does not begin.
    (The threads of concurrent.futures would keep the process until their requests are answered.)
    """
    waiting: SimpleQueue[tuple[int, Input]] = SimpleQueue()
    done: SimpleQueue[tuple[int, Any, BaseException | None]] = SimpleQueue()
    stopped = threading.Event()

    def work() -> None:
        while not stopped.is_set():
            try:
                index, value = waiting.get_nowait()
            except Empty:
                return
            try:
                done.put((index, function(value), None))
            except BaseException as error:
                stopped.set()
                done.put((index, None, error))

    for item in enumerate(inputs):
        waiting.put(item)
    results: dict[int, Output] = {}
    try:
        for _ in range(min(workers, len(inputs))):
            threading.Thread(target=work, daemon=True).start()
        while len(results) < len(inputs):
            index, result, error = done.get()
            if error is not None:
                raise error
            results[index] = result
            on_result(result)
    finally:
        stopped.set()
    return [results[i] for i in range(len(inputs))]
