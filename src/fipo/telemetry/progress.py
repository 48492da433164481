"""What a run shows: a live bar in a terminal, one line that changes in a notebook, plain lines in a file or CI."""

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.segment import Segment
from rich.table import Column
from rich.text import Text

from fipo.telemetry.terminal import in_one_line, visible

SECONDS_BETWEEN_LINES = 10.0
SECONDS_OF_A_LONG_PHASE = 60.0
PHASES = {
    "generate": "generate",
    "grade": "grade",
    "old_logprobs": "log-probs",
    "reference": "reference",
    "update": "update",
}


class PatientConsole(Console):
    """A terminal that went away, or a log on a full disk, stops no run; text is shown as it is, markup included."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    def print(self, *objects: Any, **settings: Any) -> None:
        with suppress(OSError):
            super().print(*objects, **settings)

    def render_str(self, text: str, **settings: Any) -> Text:
        return super().render_str(visible(text), **settings)  # before rich drops some of it

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """The segments, each with what its terminal can show."""
        encoding = self.encoding
        for segment in super().render(renderable, options):
            text = visible(segment.text).encode(encoding, "backslashreplace").decode(encoding)
            yield segment if segment.control else Segment(text, segment.style)

    def say(self, text: str) -> None:
        """One line, whatever is in the text."""
        self.print(in_one_line(text), soft_wrap=True)

    def on_broken_pipe(self) -> None:
        """Go on in silence, where rich would end the process."""
        self.quiet = True


class TrainingProgress:
    """`with TrainingProgress(...) as progress:`, then `phase`, `beat`, `step` and `say` as things happen."""

    def __init__(self, *, steps: int, quiet: bool = False) -> None:
        self.console = PatientConsole(soft_wrap=True, quiet=quiet)
        self.line = NotebookLine() if self.console.is_jupyter and not quiet else None
        self.first_step = 0
        self.steps = steps
        self.started = time.monotonic()
        self.last_line = float("-inf")
        self.phase_name, self.phase_began, self.phase_line = "starting", self.started, self.started
        self.bar = Progress(
            SpinnerColumn(),
            MofNCompleteColumn(),
            BarColumn(bar_width=10),
            TextColumn("{task.fields[left]}"),
            TextColumn(
                "{task.description}",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            ),
            console=self.console,
            expand=True,  # so that a narrow terminal cuts the figures, not the step or the time left
            disable=quiet or not self.console.is_terminal,
        )
        self.task = self.bar.add_task("starting", total=steps, left="")
        self.summary = ""

    def __enter__(self) -> "TrainingProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def start(self, first_step: int) -> None:
        """Training begins after `first_step`: the clock behind the time left starts here."""
        self.first_step = first_step
        self.started = time.monotonic()
        self.bar.update(self.task, completed=first_step)

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.say(text)

    def phase(self, name: str) -> None:
        """What is being done now."""
        self.phase_name = name
        self.phase_began = self.phase_line = time.monotonic()
        self._show(name)

    def beat(self) -> None:
        """A sign of life: a phase that takes long says so where no bar moves."""
        now = time.monotonic()
        if now - self.phase_line >= SECONDS_OF_A_LONG_PHASE:
            self.phase_line = now
            took = timedelta(seconds=round(now - self.phase_began))
            if self.line is not None or self.console.is_terminal:
                self._show(f"{self.phase_name}, {took} so far")
            else:
                self.say(f"{self.phase_name}, {took} so far")

    def step(self, step: int, metrics: dict[str, float]) -> None:
        """The figures of a finished step."""
        done = step - self.first_step
        left = (time.monotonic() - self.started) / done * (self.steps - step)
        self.summary = (
            f"reward {metrics['reward/mean']:+.2f}  accuracy {metrics['accuracy/mean']:.2f}  "
            f"length {metrics['response_length/mean']:.0f}  "
            f"mean f {metrics.get('fipo/influence_weight/mean', 1.0):.3f}  "
            f"{metrics['time/tokens_per_second']:,.0f} tokens/s ({_split(metrics)})"
        )
        time_left = f"{timedelta(seconds=round(left))} left"
        self.bar.update(self.task, completed=step, left=time_left)
        line = f"step {step}/{self.steps}  {self.summary}  {time_left}"
        due = time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES or step == self.steps
        if self.line is not None:
            self.summary = line
        elif not self.console.is_terminal and due:
            self.last_line = time.monotonic()
            self.say(line)
        self._show("")

    def _show(self, phase: str) -> None:
        """What is being done and the last step's figures, in the line that changes, if there is one."""
        self.bar.update(self.task, description="  ".join(filter(None, (phase, self.summary))))
        if self.line is not None:
            self.line.show("  ".join(filter(None, (self.summary, phase))))


class NotebookLine:
    """One output of a notebook's cell, replaced at every change."""

    def __init__(self) -> None:
        from IPython.display import display

        self.handle = display({"text/plain": ""}, raw=True, display_id=True)

    def show(self, text: str) -> None:
        self.handle.update({"text/plain": text}, raw=True)


def _split(metrics: dict[str, float]) -> str:
    """`generate 61% grade 2% log-probs 10% update 27%` of the time of these, and of the reference if there is one."""
    seconds = {name: metrics[f"time/{phase}"] for phase, name in PHASES.items() if f"time/{phase}" in metrics}
    whole = sum(seconds.values()) or 1.0
    return " ".join(f"{name} {share / whole:.0%}" for name, share in seconds.items())
