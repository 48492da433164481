"""What `fipo doctor RUN` prints."""

from datetime import timedelta
from statistics import fmean

from rich.console import Console

from fipo.doctor.findings import counted
from fipo.doctor.run.examination import Examination
from fipo.doctor.run.history import WINDOW, History
from fipo.doctor.show import broken, show_finding

LINE = 80  # characters of a list of rules, in a file as in a terminal


def show_examination(console: Console, examination: Examination) -> None:
    """The findings, what was looked at besides, and the verdict."""
    for name, finding in examination.findings.items():
        show_finding(console, finding, name)
    if examination.clear:
        console.print(broken(f"nothing found by: {', '.join(examination.clear)}", LINE), soft_wrap=True)
    if examination.unchecked:
        names: dict[str, list[str]] = {}  # by reason
        for name, reason in examination.unchecked.items():
            names.setdefault(reason, []).append(name)
        console.print("not checked:")
        for reason, rules in names.items():
            console.print(broken(f"  {', '.join(rules)} ({reason})", LINE), soft_wrap=True)
    console.print(verdict(examination), soft_wrap=True)


def verdict(examination: Examination) -> str:
    """`healthy: 15 rules found nothing, 2 notes`."""
    said = counted(examination.findings.values())
    if not examination.healthy:
        return said
    clear, unchecked = len(examination.clear), len(examination.unchecked)
    told = f"healthy: {clear} rules found nothing"
    if unchecked > clear:
        told = f"too few steps or metrics to tell: {unchecked} rules could not be checked"
    return f"{told}, {said}" if said else told


def standing(history: History, *, running: bool) -> str:
    """`step 12 of 50, running, 3.9 s a step, 0:02:28 left`."""
    step, steps = history.last_step, history.planned_steps
    if steps is None:
        return f"{step} steps"
    where = f"step {step} of {steps}"
    if step >= steps:
        return f"{where}, finished"
    if running:
        return f"{where}, running{_time_left(history, steps - step)}"
    stalled = history.run.stall.is_file()
    return f"{where}, not running and not finished" + (f": it stalled, see {history.run.stall}" if stalled else "")


def _time_left(history: History, steps: int) -> str:
    """From the last ten steps and their evaluations."""
    seconds = [line["time/step"] + line.get("time/eval", 0.0) for line in history.training if "time/step" in line]
    if not seconds:
        return ""
    each = fmean(seconds[-WINDOW:])
    return f", {each:.1f} s a step, {timedelta(seconds=round(each * steps))} left"
