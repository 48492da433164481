"""What a run shows: a live bar in a terminal, one line that changes in a notebook, plain lines in a file or CI."""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from statistics import fmean
from typing import IO, Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.progress import Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.segment import Segment
from rich.table import Column
from rich.text import Text

from fipo.telemetry.terminal import in_one_line, visible

SECONDS_BETWEEN_LINES = 10.0
SECONDS_OF_A_LONG_PHASE = 60.0
SECONDS_BETWEEN_LOOKS = 0.2  # of a line that changes
LONGEST_PHASE = len("generate 192/192")
STEPS_LOOKED_BACK = 10  # for the time that the next ones take
PHASES = {
    "generate": "generate",
    "grade": "grade",
    "old_logprobs": "log-probs",
    "reference": "reference",
    "update": "update",
    "eval": "evaluate",
}


class PatientConsole(Console):
    """A terminal that went away, or a log on a full disk, stops no run; text is shown as it is, markup included."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **settings)

    @property
    def file(self) -> IO[str]:
        """Where rich's own escape sequences are meant: behind what else is printed goes through, be it twice."""
        file = super().file
        while (proxied := getattr(file, "rich_proxied_file", None)) is not None:
            file = proxied
        return file

    @file.setter
    def file(self, file: IO[str]) -> None:
        self._file = file

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
    """`with TrainingProgress(...) as progress:`, then `start`, and `phase`, `beat`, `step`, `evaluated` and `say` as
    things happen."""

    def __init__(self, *, steps: int, evaluate_every: int | None = None, quiet: bool = False) -> None:
        self.console = PatientConsole(soft_wrap=True, quiet=quiet)
        self.line = NotebookLine() if self.console.is_jupyter and not quiet else None
        self.left = TimeLeft(steps, evaluate_every)
        self.steps = steps
        self.last_line = float("-inf")
        self.phase_name, self.counted, self.phase_began = "starting", "", time.monotonic()
        self.phase_line = self.shown = self.phase_began
        self.bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[count]}"),
            _LeftColumn(self.left),
            _FiguresColumn(table_column=Column(no_wrap=True, ratio=1)),
            console=self.console,
            expand=True,
            disable=quiet or not self.console.is_terminal,
        )
        self.task = self.bar.add_task("starting", total=steps, count="", figures=["starting"])
        self.key_figures: list[str] = []
        self.figures: list[str] = []

    def __enter__(self) -> "TrainingProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def start(self, first_step: int, evaluation: float | None = None) -> None:
        """Training begins after `first_step`: the clock behind the time left starts here.

        evaluation: how many seconds one took before, if there was one.
        """
        self.left.start(first_step, evaluation)
        self.bar.update(self.task, count=f"{first_step}/{self.steps}")

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.say(text)

    def phase(self, name: str) -> None:
        """What is being done now; entered again, as the update is by each mini-batch, it goes on."""
        shown = PHASES.get(name, name)
        if shown == self.phase_name:
            return
        self.phase_name, self.counted = shown, ""
        self.phase_began = self.phase_line = time.monotonic()
        self._show()

    def beat(self, done: int = 0, total: int = 0) -> None:
        """A sign of life, and if it is known how much of the phase is `done`."""
        now = time.monotonic()
        if total and self.left.begun:  # what is tried out while loading is not work of the run
            self.counted = f" {done}/{total}"
        changes = self.line is not None or self.console.is_terminal
        if changes and now - self.shown >= SECONDS_BETWEEN_LOOKS:
            self._show()
        elif not changes and now - self.phase_line >= SECONDS_OF_A_LONG_PHASE:
            self.phase_line = now
            self.say("".join(self._doing()))

    def step(self, step: int, metrics: dict[str, float]) -> None:
        """The figures of a finished step."""
        self.left.step(step)
        self.key_figures = [
            f"reward {metrics['reward/mean']:+.2f}",
            f"  accuracy {metrics['accuracy/mean']:.2f}",
            f"  length {metrics['response_length/mean']:.0f}",
        ]
        self.figures = [
            f"  mean f {metrics.get('fipo/influence_weight/mean', 1.0):.3f}",
            f"  {metrics['time/tokens_per_second']:,.0f} tokens/s",
            f" ({_split(metrics)})",
        ]
        self.bar.update(self.task, count=f"{step}/{self.steps}")
        self.phase_name = self.counted = ""
        due = time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES or step == self.steps
        if self.line is None and not self.console.is_terminal and due:
            self.last_line = time.monotonic()
            figures = "".join((*self.key_figures, *self.figures))
            self.say(f"step {step}/{self.steps}  {figures}  {self.left.text()}")
        self._show()

    def evaluated(self, seconds: float) -> None:
        """An evaluation is over, which took so long."""
        self.left.evaluated(seconds)

    def _doing(self) -> tuple[str, str, str]:
        """The phase, how far it is, and where it takes long since when."""
        took = time.monotonic() - self.phase_began
        long = f", {_duration(took)} so far" if took >= SECONDS_OF_A_LONG_PHASE else ""
        return self.phase_name, self.counted, long

    def _show(self) -> None:
        """In the line that changes, if there is one: what a narrow terminal is not to lose comes first."""
        self.shown = time.monotonic()
        name, counted, long = self._doing()
        if self.figures:  # what stands behind the phase stays where it is while it counts
            name, counted = f"  {name}", counted.ljust(LONGEST_PHASE - len(name))
        pieces = [*self.key_figures, name, counted, long, *self.figures]
        self.bar.update(self.task, figures=pieces)
        if self.line is not None:
            at = f"step {self.left.done}/{self.steps}" if self.left.begun else ""
            self.line.show("  ".join(filter(None, (at, "".join(pieces), self.left.text()))))


class TimeLeft:
    """How long the steps and the evaluations that are to come will take: it counts down, and is put right by each."""

    def __init__(self, steps: int, evaluate_every: int | None) -> None:
        self.steps = steps
        self.evaluate_every = evaluate_every
        self.begun = False
        self.done = 0
        self.evaluation: float | None = None  # seconds
        self.took: deque[float] = deque(maxlen=STEPS_LOOKED_BACK)  # seconds of each of the last steps
        self.last = time.monotonic()  # when the last step was over, or its evaluation
        self.end: float | None = None

    def start(self, first_step: int, evaluation: float | None = None) -> None:
        self.begun, self.done, self.evaluation, self.last = True, first_step, evaluation, time.monotonic()

    def step(self, step: int) -> None:
        """Step number `step` is over; its evaluation, if one is due, is to come."""
        now = time.monotonic()
        steps = step - self.done
        self.took.extend([(now - self.last) / steps] * steps)
        self.done, self.last = step, now
        self._look_ahead(step)

    def evaluated(self, seconds: float) -> None:
        self.evaluation = seconds
        self.last = time.monotonic()
        if self.took:
            self._look_ahead(self.done + 1)

    def text(self) -> str:
        """`0:01:20 left`; "" as long as nothing is known."""
        return "" if self.end is None else f"{_duration(max(0.0, self.end - time.monotonic()))} left"

    def _look_ahead(self, evaluated_from: int) -> None:
        """Steps take as long as the last ones did, and each evaluation of a step from that one on as the last."""
        due = 0
        if self.evaluate_every is not None:
            due = sum(s % self.evaluate_every == 0 or s == self.steps for s in range(evaluated_from, self.steps + 1))
        self.end = self.last + fmean(self.took) * (self.steps - self.done) + (self.evaluation or 0.0) * due


class _LeftColumn(ProgressColumn):
    """The time left, which goes on between two steps."""

    def __init__(self, left: TimeLeft) -> None:
        super().__init__()
        self.left = left

    def render(self, task: Task) -> Text:
        return Text(self.left.text())


class _FiguresColumn(ProgressColumn):
    """As many of the task's `figures`, from the first on, as there is room for: none is cut."""

    def render(self, task: Task) -> "_Whole":
        return _Whole(task.fields["figures"])


@dataclass(frozen=True)
class _Whole:
    pieces: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = ""
        for piece in self.pieces:
            if cell_len(text + piece) > options.max_width:
                break
            text += piece
        yield Text(text.rstrip(), no_wrap=True)


class NotebookLine:
    """One output of a notebook's cell, replaced at every change."""

    def __init__(self) -> None:
        from IPython.display import display

        self.handle = display({"text/plain": ""}, raw=True, display_id=True)

    def show(self, text: str) -> None:
        self.handle.update({"text/plain": text}, raw=True)


def _duration(seconds: float) -> timedelta:
    return timedelta(seconds=round(seconds))


def _split(metrics: dict[str, float]) -> str:
    """`generate 61% grade 2% log-probs 10% update 27%` of the time of these, and of the reference if there is one."""
    seconds = {name: metrics[f"time/{phase}"] for phase, name in PHASES.items() if f"time/{phase}" in metrics}
    whole = sum(seconds.values()) or 1.0
    return " ".join(f"{name} {share / whole:.0%}" for name, share in seconds.items())
