"""What a terminal shows during an evaluation: a live bar, or plain lines where output is a file or CI."""

import time
from datetime import timedelta

from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

from fipo.telemetry.progress import SECONDS_BETWEEN_LINES, PatientConsole


class EvalProgress:
    """`with EvalProgress() as progress:`, then `start`, `tokens`, `answered` and `say` as things happen."""

    def __init__(self) -> None:
        self.console = PatientConsole(soft_wrap=True)
        self.bar = Progress(
            SpinnerColumn(),
            MofNCompleteColumn(),
            BarColumn(bar_width=10),
            TextColumn("{task.description}", markup=False),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.task = self.bar.add_task("loading", total=None)
        self.start(0, 0)

    def __enter__(self) -> "EvalProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def start(self, done: int, samples: int) -> None:
        """`done` of the `samples` were there before: the clock behind rate and time left starts here."""
        self.samples, self.done, self.before = samples, done, done
        self.decoded = 0
        self.started = self.last_line = time.monotonic()
        self.bar.update(self.task, completed=done, total=samples or None)

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.say(text)

    def tokens(self, count: int) -> None:
        """So many more tokens came."""
        self.decoded += count
        self._show()

    def answered(self, samples: int) -> None:
        """So many more samples are graded and on disk."""
        self.done += samples
        self._show()

    def _show(self) -> None:
        now = time.monotonic()
        seconds = max(now - self.started, 1e-9)
        figures = f"{self.decoded / seconds:,.0f} tokens/s"
        if self.done > self.before:
            left = seconds / (self.done - self.before) * (self.samples - self.done)
            figures += f"  {timedelta(seconds=round(left))} left"
        self.bar.update(self.task, completed=self.done, description=figures)
        if not self.console.is_terminal and now - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = now
            self.say(f"{self.done}/{self.samples} samples  {figures}")
