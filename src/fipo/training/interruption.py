"""Ctrl-C, SIGTERM and a terminal that goes away: the step in hand is finished or dropped, then the state is saved."""

import shlex
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

from fipo.beat import Beat
from fipo.telemetry.exit_codes import to_go_on
from fipo.telemetry.heartbeat import Heartbeat
from fipo.telemetry.progress import TrainingProgress
from fipo.telemetry.run_directory import RunDirectory
from fipo.telemetry.terminal import called_as

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StepDropped(Exception):
    """A stop was asked for while the step in hand had changed nothing yet."""


class StopRequests:
    """`with StopRequests(say) as stop:` notes the first of SIGNALS; another one ends the process at once.

    In the main thread alone: Python allows handlers in no other.
    """

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.signal: int | None = None  # the first one that came
        self.droppable = False  # nothing has changed yet since the state that would be saved

    def __enter__(self) -> "StopRequests":
        ours = SIGNALS if threading.current_thread() is threading.main_thread() else ()
        self._previous = {number: signal.signal(number, self._note) for number in ours}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """As a shell counts: 130 after Ctrl-C, 143 after SIGTERM, 129 without a terminal."""
        return 128 + (self.signal or 0)

    def _note(self, number: int, _: FrameType | None) -> None:
        self.signal = number
        for other in SIGNALS:  # no handler of Python's: that would wait for the end of a long operation in C
            signal.signal(other, signal.SIG_DFL)
        self.say("stopping at the next safe moment, then saving; once more to quit at once")


def beat_of(heartbeat: Heartbeat, progress: TrainingProgress, stop: StopRequests) -> Beat:
    """What is called after every piece of work, and raises StepDropped if the run shall stop and loses nothing by it.

    It does not know the loop, which holds all whom it is given to: they would stay until a garbage collection.
    """

    def beat(done: int = 0, total: int = 0) -> None:
        heartbeat.beat()
        progress.beat(done, total)
        if stop.signal is not None and stop.droppable:
            raise StepDropped

    return beat


def what_is_safe(run: RunDirectory) -> str:
    """How a run goes on that something ended."""
    newest = run.newest_checkpoint()
    if newest is None:
        return "no checkpoint had been written yet, so --resume begins again"
    return f"the run can continue from {newest.name} with --resume"


def what_to_type(run: RunDirectory) -> str:
    """How an interrupted run goes on, and how to look at it, if there is anything to see."""
    again = to_go_on("add --resume to continue")
    if not run.metrics.exists():
        return again
    return f"{again}; {called_as(sys.argv[0])} report {shlex.quote(str(run.path))} shows it so far"
