"""What a terminal shows during a study: a live bar, or plain lines where output is a file or CI."""

import time
from collections.abc import Collection, Sequence
from datetime import timedelta

from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from fipo.study.config import Job
from fipo.telemetry.progress import PatientConsole

SECONDS_BETWEEN_LINES = 60.0


class StudyProgress:
    """`with StudyProgress(jobs, finished) as progress:`, then `show` and `say` as things happen.

    Counts training steps; `finished` names the jobs with nothing left to do.
    """

    def __init__(self, jobs: Sequence[Job], finished: Collection[str]) -> None:
        self.jobs = jobs
        self.console = PatientConsole(soft_wrap=True)
        self.bar = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=10),
            TextColumn("{task.description}", markup=False),
            console=self.console,
            disable=not self.console.is_terminal,
        )
        self.total = sum(job.recipe.run.steps for job in jobs)
        self.task = self.bar.add_task("starting", total=self.total)
        self.known = {job.name: job.recipe.run.steps if job.name in finished else steps_of(job) for job in jobs}
        self.before = sum(self.known.values())
        self.started = time.monotonic()
        self.last_line = float("-inf")

    def __enter__(self) -> "StudyProgress":
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.say(text)

    def show(self, running: Sequence[str], failed: int) -> None:
        """The state of the study, from what the runs have written."""
        self.known |= {job.name: steps_of(job) for job in self.jobs if job.name in running}
        done = sum(self.known.values())
        finished = sum(self.known[job.name] >= job.recipe.run.steps for job in self.jobs)
        seconds = time.monotonic() - self.started
        text = f"{finished}/{len(self.jobs)} runs  {done:,}/{self.total:,} steps"
        if failed:
            text += f"  {failed} failed"
        if done > self.before:
            rate = (done - self.before) / seconds
            text += f"  {60 * rate:.1f} steps/min  {timedelta(seconds=round((self.total - done) / rate))} left"
        text += f"  now {', '.join(running)}" if running else ""
        self.bar.update(self.task, completed=done, description=text)
        if not self.console.is_terminal and time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            self.say(text)


def steps_of(job: Job) -> int:
    """Training steps that the job's run has written."""
    metrics = job.folder / "metrics.jsonl"
    return max(0, metrics.read_bytes().count(b"\n") - 1) if metrics.is_file() else 0
