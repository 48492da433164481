"""The trackers of a run as the trainer sees them: processes that it never waits for before its end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from fipo.errors import UserError
from fipo.extras import install_hint
from fipo.telemetry.run_directory import RunDirectory

FINISH_SECONDS = 30
GOES_ON = "the run goes on without it"


class Trackers:
    """`with Trackers(names, run, say) as trackers:`, `start` when the run directory is there, `check` after each step.

    What fails is said once, in one line, and dropped; nothing of it reaches the run. Raises UserError for a library
    that is not installed.
    """

    def __init__(self, names: Sequence[str], run: RunDirectory, say: Callable[[str], None]) -> None:
        self.names = list(dict.fromkeys(names))
        for name in self.names:
            _refuse_missing(name)
        self.run = run
        self.say = say
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, *_: object) -> None:
        """Give them FINISH_SECONDS, all together, to log what is there and finish."""
        for process in self.processes.values():
            process.stdin.close()  # type: ignore[union-attr]
        deadline = time.monotonic() + FINISH_SECONDS
        for name, process in self.processes.items():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
            if process.poll() is None or process.returncode == -signal.SIGALRM:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                self.say(f"tracker {name} did not finish within {FINISH_SECONDS} s and was ended ({self._log(name)})")
            elif process.returncode:
                self._say_failure(name, process.returncode)

    def start(self) -> None:
        for name in self.names:
            try:
                self.processes[name] = self._process(name)
            except OSError as error:
                self.say(f"tracker {name} failed at its start: {error}; {GOES_ON}")

    def check(self) -> None:
        """Drop those that failed."""
        for name, process in list(self.processes.items()):
            if process.poll() is not None:
                del self.processes[name]
                self._say_failure(name, process.returncode)

    def _process(self, name: str) -> subprocess.Popen[bytes]:
        self._log(name).parent.mkdir(parents=True, exist_ok=True)
        arguments = [str(self.run.path), name, str(FINISH_SECONDS)]
        with self._log(name).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-P", "-m", "fipo.telemetry.trackers.follow", *arguments],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C is for the trainer
            )

    def _say_failure(self, name: str, code: int) -> None:
        log = self._log(name)
        if code == 1:
            what = f"failed {_last_line(log)}"
        else:
            what = f"ended with {f'signal {-code}' if code < 0 else f'exit code {code}'}"
        self.say(f"tracker {name} {what}; {GOES_ON} ({log})")

    def _log(self, name: str) -> Path:
        return self.run.trackers / name / "log.txt"


def _last_line(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:  # somebody removed it
        lines = []
    return lines[-1][:300] if lines else "and gave no reason"


def _refuse_missing(name: str) -> None:
    try:
        version(name)
    except PackageNotFoundError:
        raise UserError(f"telemetry.trackers: {name} is not installed: {install_hint(name)}") from None
