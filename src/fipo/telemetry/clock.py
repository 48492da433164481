"""Where the wall time of a step went, by phase."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Clock:
    def __init__(self, on_phase: Callable[[str], None] | None = None) -> None:
        self.started = time.perf_counter()
        self.seconds: dict[str, float] = defaultdict(float)
        self.on_phase = on_phase  # told the name of each phase as it begins

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the time spent inside to phase `name`."""
        if self.on_phase is not None:
            self.on_phase(name)
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - started

    def elapsed(self) -> float:
        """Seconds since this clock was made."""
        return time.perf_counter() - self.started
