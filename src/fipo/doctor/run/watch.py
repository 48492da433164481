"""`fipo doctor --watch RUN`: a live run in the terminal, or plain lines where output is a file."""

import time

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fipo.doctor.findings import CannotTell
from fipo.doctor.run.examination import Examination, examine
from fipo.doctor.run.history import History, Series
from fipo.doctor.run.show import show_examination, standing
from fipo.doctor.show import STYLES, show_finding
from fipo.telemetry.progress import PatientConsole
from fipo.telemetry.run_directory import RunDirectory
from fipo.telemetry.run_lock import is_locked
from fipo.telemetry.tail import Tail

SECONDS_BETWEEN_LOOKS = 0.5
BARS = "▁▂▃▄▅▆▇█"
DRAWN = 40  # steps of a curve
CURVES = {  # a short name, and the key
    "reward": "reward/mean",
    "accuracy": "accuracy/mean",
    "length": "response_length/mean",
    "entropy": "policy/entropy",
    "mean f": "fipo/influence_weight/mean",
    "gradient norm": "policy/grad_norm",
    "tokens/s": "time/tokens_per_second",
    "held-out avg@k": "eval/avg_at_k",
}


def watch(run: RunDirectory) -> int:
    """Follow a run to its end, and wait for one that is not there: 0 when it has finished, 1 if its process is gone
    before.

    Raises UserError for a folder that is no run, and for metrics that no run wrote.
    """
    console = PatientConsole()
    _await_config(run, console)
    tail, screen = Tail(run.metrics), _Screen(console)
    lines: list[dict[str, float]] | None = None
    with Live(console=console, auto_refresh=False, transient=not console.is_terminal) as live:
        while True:
            running = is_locked(run.path)  # asked before reading: what a run wrote at its end is read after it
            if (new := tail.lines()) != lines:
                lines, history = new, History(run, new)
                screen.look(history)
            live.update(screen.panel(standing(history, running=running)), refresh=True)
            finished = history.planned_steps is not None and history.last_step >= history.planned_steps
            if finished or not running:
                break
            time.sleep(SECONDS_BETWEEN_LOOKS)
    console.print(f"{run.path}: {standing(history, running=running)}", soft_wrap=True)
    show_examination(console, screen.examination)
    return 0 if finished or history.planned_steps is None else 1


def _await_config(run: RunDirectory, console: Console) -> None:
    """A run that is not there yet may begin at any time; one that is loading holds its lock and has written nothing."""
    if not run.path.exists():
        console.print(f"{run.path}: waiting for this run to begin", soft_wrap=True)
        while not run.config.is_file():
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if is_locked(run.path) and not run.config.is_file():
        console.print(f"{run.path}: loading", soft_wrap=True)
        while is_locked(run.path) and not run.config.is_file():
            time.sleep(SECONDS_BETWEEN_LOOKS)
    RunDirectory.existing(run.path)


class _Screen:
    """What has been said, so that it is said once."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.history: History | None = None
        self.examination = Examination({}, [], {})

    def look(self, history: History) -> None:
        """Say what is new: findings, and where output is a file a line per step."""
        before = self.history
        if before is not None and history.last_step == before.last_step:
            return
        examination = examine(history)
        if not self.console.is_terminal:
            said = before.last_step if before is not None else history.last_step - 1
            for line in history.training:
                if line["step"] > said:
                    self.console.print(_status(line, history.planned_steps), soft_wrap=True)
        for name, finding in examination.findings.items():
            known = self.examination.findings.get(name)
            if known is None or known.level != finding.level:
                show_finding(self.console, finding, name)
        self.history, self.examination = history, examination

    def panel(self, where: str) -> RenderableType:
        """The standing, the main curves, and the findings by name."""
        if self.history is None:
            return Text(where)
        table = Table.grid(padding=(0, 2))
        table.add_column()
        table.add_column(justify="right")
        table.add_column()
        for label, key in CURVES.items():
            try:
                curve = self.history.series(key)
            except CannotTell:
                continue
            table.add_row(label, f"{curve.values[-1]:.4g}", "" if self.console.options.ascii_only else sparkline(curve))
        named = [
            Text(f"{finding.level}: {name}, {finding.where}", style=STYLES[finding.level])
            for name, finding in self.examination.findings.items()
        ]
        return Group(Text(where, style="bold"), table, *named)


def _status(line: dict[str, float], steps: int | None) -> str:
    figures = [f"{label} {line[key]:.4g}" for label, key in CURVES.items() if key in line]
    return "  ".join([f"step {line['step']:.0f}" + (f"/{steps}" if steps is not None else ""), *figures])


def sparkline(series: Series) -> str:
    """The last 40 values, the lowest of them as the lowest bar; all the same where they do not differ."""
    values = series.values[-DRAWN:]
    low, high = min(values), max(values)
    if high == low:
        return BARS[0] * len(values)
    return "".join(BARS[int((value - low) / (high - low) * (len(BARS) - 1))] for value in values)
