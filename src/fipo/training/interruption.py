"""Ctrl-C and SIGTERM: the step in hand is finished or dropped, so that what is saved is whole."""

import os
import signal
from collections.abc import Callable
from types import FrameType


class StepDropped(Exception):
    """A stop was asked for while the step in hand had changed nothing yet."""


class StopRequests:
    """`with StopRequests(say) as stop:` notes SIGINT and SIGTERM; a second one ends the process at once."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.signal: int | None = None  # the first one that came
        self.droppable = False  # nothing has changed yet since the state that would be saved

    def __enter__(self) -> "StopRequests":
        self._previous = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """As a shell counts: 130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + (self.signal or 0)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.signal = number
        self.say("stopping at the next safe moment, then saving; once more to quit at once")
