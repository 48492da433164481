"""Runs the jobs of a study side by side, each in a process of its own; what is finished already stays."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import tomli_w

from fipo.errors import RunStopped
from fipo.grading.workers.system import kill
from fipo.study.archive import Archive
from fipo.study.config import Job, Study
from fipo.study.progress import StudyProgress
from fipo.telemetry.durable import replace_file
from fipo.telemetry.run_directory import RunDirectory
from fipo.training.interruption import StopRequests
from fipo.training.recipe import Recipe
from fipo.training.saving.resume import check_same_recipe

POLL_SECONDS = 0.5
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}  # the runs share the machine


@dataclass(frozen=True, kw_only=True)
class Running:
    job: Job
    process: subprocess.Popen[bytes]
    log: Path


class Runner:
    def __init__(self, study: Study, jobs: Sequence[Job], archive: Archive) -> None:
        """Raises UserError for runs, archived or in their folders, that another recipe made."""
        self.study = study
        self.archive = archive
        self.jobs = {job.name: job for job in jobs}
        self.running: list[Running] = []
        archive.check(jobs)
        for job in sorted(jobs, key=lambda job: job.after is not None):  # those that others go by come first
            if not archive.finished(job) and job.has_ended and self._can_start(job):
                check_same_recipe(self._recipe(job), RunDirectory(job.folder), job.control)
                archive.add(job)

    def run_all(self) -> None:
        """Bring every job to its end and into the archive.

        Raises RunStopped after Ctrl-C or SIGTERM, with all runs saved.
        """
        finished = {name for name, job in self.jobs.items() if self.archive.finished(job)}
        waiting = [job for name, job in self.jobs.items() if name not in finished]
        for name in ("jobs", "logs", "runs"):
            (self.study.folder / name).mkdir(parents=True, exist_ok=True)
        with (
            StudyProgress(list(self.jobs.values()), finished) as progress,
            StopRequests(progress.say) as stop,
        ):
            try:
                while waiting or self.running:
                    self._collect(progress)
                    self._fill(waiting, progress)
                    progress.show([one.job.name for one in self.running], self.failed)
                    time.sleep(POLL_SECONDS)
                    if stop.signal:
                        self._stop()
                        raise RunStopped("interrupted; the same command goes on from here", exit_code=stop.exit_code)
            finally:
                for one in self.running:
                    one.process.kill()
                    one.process.wait()

    def _recipe(self, job: Job) -> Recipe:
        """The job's, with the learning rate scaled by the mean influence weight of the run that it goes by."""
        if job.after is None:
            return job.recipe
        lines = self.archive.runs[self._needed(job).name].lines
        mean_f = fmean(line["fipo/influence_weight/mean"] for line in lines if "fipo/influence_weight/mean" in line)
        update = job.recipe.update
        scaled = update.model_copy(update={"learning_rate": update.learning_rate * mean_f})
        return job.recipe.model_copy(update={"update": scaled})

    def _can_start(self, job: Job) -> bool:
        return job.after is None or self.archive.finished(self._needed(job))

    def _needed(self, job: Job) -> Job:
        return self.jobs[f"{job.after}_seed_{job.seed}"]

    @property
    def failed(self) -> int:
        return sum(name in self.archive.runs and not self.archive.finished(job) for name, job in self.jobs.items())

    def _collect(self, progress: StudyProgress) -> None:
        """Take note of the runs that have ended."""
        for one in [one for one in self.running if one.process.poll() is not None]:
            self.running.remove(one)
            self._note(one.job, why_failed(one.process.returncode, one.log), progress)

    def _note(self, job: Job, failure: str | None, progress: StudyProgress) -> None:
        self.archive.add(job, failure)
        if failure:
            progress.say(f"{job.name} failed: {failure}")

    def _fill(self, waiting: list[Job], progress: StudyProgress) -> None:
        """Start what can start, as far as there is room."""
        for job in list(waiting):
            if len(self.running) == self.study.study.processes:
                return
            if self._can_start(job):
                waiting.remove(job)
                self.running.append(self._start(job))
            elif (needed := self._needed(job)) not in waiting and all(one.job != needed for one in self.running):
                waiting.remove(job)
                self._note(job, f"needs {needed.name}, which failed", progress)

    def _start(self, job: Job) -> Running:
        path = self.study.folder / "jobs" / f"{job.name}.toml"
        log = self.study.folder / "logs" / f"{job.name}.log"
        replace_file(path, tomli_w.dumps(self._recipe(job).model_dump(exclude_none=True)).encode())
        control = [job.control.name] if job.control else []
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "fipo.study.run", str(path), *control],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **ONE_THREAD},
                start_new_session=True,  # the terminal's Ctrl-C reaches it through `_stop` alone, once
            )
        return Running(job=job, process=process, log=log)

    def _stop(self) -> None:
        """Ask every run to save and end, and wait for it."""
        kill([one.process.pid for one in self.running], signal.SIGTERM)
        for one in self.running:
            one.process.wait()
        self.running.clear()


def why_failed(exit_code: int, log: Path) -> str | None:
    """None if it did not."""
    if exit_code < 0:
        return f"ended by {signal.Signals(-exit_code).name}; see {log}"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    said = lines[-1].removeprefix("fipo: ") if lines else f"see {log}"
    return said if exit_code else None
