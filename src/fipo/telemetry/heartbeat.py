"""A watch over a run: without a sign of life for too long it writes down where everything stands, and ends the run."""

import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Protocol

GRACE_SECONDS = 30.0  # for our own thread, before faulthandler's takes over, which needs no interpreter
SUSPENDED_SECONDS = 2.0  # that our own thread was not woken in
REARM_SECONDS = 1.0  # a new timer at every beat would cost more than the beats are worth
EXIT_CODE = 1


class Beat(Protocol):
    """What is called after every piece of work: a sign of life, and if it is known how much of the phase is `done`."""

    def __call__(self, done: int = 0, total: int = 0) -> None: ...


def no_beat(done: int = 0, total: int = 0) -> None:
    """Where nobody listens."""


class Heartbeat:
    """`with Heartbeat(...)`: beats come from the decode loop, the graders and the micro-batches.

    After `limit_seconds` without one, `report` gets the phase, the stacks of all threads and what `worker_stacks`
    says, and the process ends with exit code 1, whatever its threads are doing.
    """

    def __init__(self, limit_seconds: float, report: Path, worker_stacks: Callable[[], str]) -> None:
        self.limit_seconds = limit_seconds
        self.report = report
        self.worker_stacks = worker_stacks
        self.phase = "starting"
        self._last = self._armed = time.monotonic()
        self._done = threading.Event()

    def __enter__(self) -> "Heartbeat":
        self._file: IO[str] = self.report.open("a")
        self._arm()
        threading.Thread(target=self._watch, name="heartbeat", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        faulthandler.cancel_dump_traceback_later()
        self._file.close()
        if self.report.stat().st_size == 0:
            self.report.unlink()

    def enter(self, phase: str) -> None:
        """A sign of life, and what is being done from now on."""
        self.phase = phase
        self.beat()

    def beat(self) -> None:
        """A sign of life."""
        self._last = time.monotonic()
        if self._last - self._armed >= REARM_SECONDS:
            self._arm()

    def _arm(self) -> None:
        self._armed = self._last
        faulthandler.dump_traceback_later(self.limit_seconds + GRACE_SECONDS, exit=True, file=self._file)

    def _watch(self) -> None:
        interval, tick = min(1.0, self.limit_seconds / 4), time.monotonic()
        while not self._done.wait(interval):
            before, tick = tick, time.monotonic()
            if tick - before > interval + SUSPENDED_SECONDS:
                self._last = tick  # the whole process was stopped (Ctrl-Z) and goes on now
            silent = tick - self._last
            if silent > self.limit_seconds:
                self._end(silent)

    def _end(self, silent: float) -> None:
        what = f"no sign of life for {silent:.0f} s in phase {self.phase!r}"
        try:
            self._file.write(f"{what}\n\nThreads of the trainer, pid {os.getpid()}\n")
            self._file.flush()
            faulthandler.dump_traceback(self._file, all_threads=True)
            self._file.write(f"\nGraders\n{self.worker_stacks()}\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        finally:
            print(f"fipo: stalled: {what}; stacks in {self.report}; add --resume to continue", file=sys.stderr)
            sys.stderr.flush()
            os._exit(EXIT_CODE)
