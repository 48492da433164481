"""A watch over a run: without a sign of life for too long it writes down where everything stands, and ends the run."""

import faulthandler
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO

from fipo.files import refuse_odd
from fipo.telemetry.terminal import in_one_line, say_failure

GRACE_SECONDS = 30.0  # for our own thread, before the watchdog's turn, which needs no interpreter
EXIT_CODE = 1


class Heartbeat:
    """`with Heartbeat(...)`: beats come from the decode loop, the graders and the micro-batches.

    After `limit_seconds` without one, `report` gets the phase, the stacks of all threads and what `worker_stacks`
    says, and the process ends with exit code 1; where no Python thread can run, the stacks alone and by SIGKILL.
    Time in which the process was stopped (Ctrl-Z, SIGSTOP, a paused container) does not count.
    """

    def __init__(self, limit_seconds: float, report: Path, worker_stacks: Callable[[], str]) -> None:
        self.limit_seconds = limit_seconds
        self.report = report
        self.worker_stacks = worker_stacks
        self.said = in_one_line(f"; stacks in {report}; add --resume to continue")
        self.phase = "starting"
        self._beats = 0
        self._done = threading.Event()

    def __enter__(self) -> "Heartbeat":
        refuse_odd(self.report)
        self._open()
        script = Path(__file__).with_name("watchdog.py")
        words = (os.getpid(), self.limit_seconds + GRACE_SECONDS, self.said)
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", str(script), *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        self._thread = threading.Thread(target=self._watch, name="heartbeat", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()  # it writes to what is closed now
        with suppress(OSError):
            self._watchdog.stdin.close()  # type: ignore[union-attr]
        self._watchdog.wait()
        faulthandler.unregister(signal.SIGUSR2)
        self._file.close()
        with suppress(OSError):  # somebody else has removed it
            if self.report.stat().st_size == 0:
                self.report.unlink()

    def _open(self) -> None:
        """The report, made again where somebody removed it: it takes what the watchdog asks for, too."""
        self._file: IO[str] = self.report.open("a")
        faulthandler.register(signal.SIGUSR2, file=self._file, all_threads=True)

    def enter(self, phase: str) -> None:
        """A sign of life, and what is being done from now on."""
        self.phase = phase
        self.beat()

    def beat(self) -> None:
        """A sign of life."""
        self._beats += 1

    def _watch(self) -> None:
        interval = min(1.0, self.limit_seconds / 4)
        silent, heard, before = 0.0, self._beats, time.monotonic()
        pipe = self._watchdog.stdin.fileno()  # type: ignore[union-attr]
        os.set_blocking(pipe, False)
        while not self._done.wait(interval):
            with suppress(OSError):  # it is gone, or was stopped for long
                os.write(pipe, b".")
            with suppress(OSError):
                if not self.report.exists():
                    self._open()
            now, beats = time.monotonic(), self._beats
            silent = 0.0 if beats != heard else silent + min(now - before, 2 * interval)  # more: we were stopped
            heard, before = beats, now
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
            say_failure(f"stalled: {what}{self.said}")
            os._exit(EXIT_CODE)
