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

from fipo.errors import RunStopped, UserError
from fipo.study.archive import ArchivedRun
from fipo.study.config import Job, Study
from fipo.study.progress import StudyProgress
from fipo.tasks.processes import kill
from fipo.telemetry.run_directory import RunDirectory
from fipo.training.config import Recipe
from fipo.training.interruption import StopRequests
from fipo.training.resume import check_same_recipe

POLL_SECONDS = 0.5
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}  # the runs share the machine


@dataclass(frozen=True, kw_only=True)
class Running:
    job: Job
    process: subprocess.Popen[bytes]
    log: Path


class Runner:
    def __init__(self, study: Study, jobs: Sequence[Job], archived: Sequence[ArchivedRun]) -> None:
        """Raises UserError if a run of `archived` is one of the jobs with another recipe."""
        self.study = study
        self.jobs = {job.name: job for job in jobs}
        self.archived = {run.name: run for run in archived if run.name in self.jobs}
        self.running: list[Running] = []
        self.failures: dict[str, str] = {}  # why, by the job's name
        for name, run in self.archived.items():
            if run.recipe != self.jobs[name].fingerprint:
                raise UserError(f"{study.archive}: {name} was run with another recipe; choose another --study.name")

    def run_all(self) -> None:
        """Bring every job to its end, or into `failures`.

        Raises UserError for a finished run that another recipe made, RunStopped after Ctrl-C or SIGTERM with all runs
        saved.
        """
        finished = {name for name, job in self.jobs.items() if self.finished(job)}
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
                    self._fill(waiting)
                    progress.show([one.job.name for one in self.running], len(self.failures))
                    time.sleep(POLL_SECONDS)
                    if stop.signal:
                        self._stop()
                        raise RunStopped("interrupted; the same command goes on from here", exit_code=stop.exit_code)
            finally:
                for one in self.running:
                    one.process.kill()
                    one.process.wait()

    def finished(self, job: Job) -> bool:
        """Whether the run is complete, here or in the archive. Raises UserError if it began with another recipe."""
        if job.has_ended:
            check_same_recipe(self._recipe(job), RunDirectory(job.folder), job.control)
            return True
        archived = self.archived.get(job.name)
        return archived is not None and not archived.failure

    def _recipe(self, job: Job) -> Recipe:
        """The job's, with the learning rate scaled by the mean influence weight of the run that it goes by."""
        if job.after is None:
            return job.recipe
        needed = self._needed(job)
        lines = RunDirectory(needed.folder).read_metrics() or self.archived[needed.name].lines
        mean_f = fmean(line["fipo/influence_weight/mean"] for line in lines if "fipo/influence_weight/mean" in line)
        update = job.recipe.update
        scaled = update.model_copy(update={"learning_rate": update.learning_rate * mean_f})
        return job.recipe.model_copy(update={"update": scaled})

    def _needed(self, job: Job) -> Job:
        return self.jobs[f"{job.after}_seed_{job.seed}"]

    def _collect(self, progress: StudyProgress) -> None:
        """Take note of the runs that have ended."""
        for one in [one for one in self.running if one.process.poll() is not None]:
            self.running.remove(one)
            if one.process.returncode != 0:
                self.failures[one.job.name] = _last_line(one.log)
                progress.say(f"{one.job.name} failed: {self.failures[one.job.name]}")

    def _fill(self, waiting: list[Job]) -> None:
        """Start what can start, as far as there is room."""
        for job in list(waiting):
            if len(self.running) == self.study.study.processes:
                return
            needed = self._needed(job) if job.after else None
            if needed and needed.name in self.failures:
                waiting.remove(job)
                self.failures[job.name] = f"needs {needed.name}, which failed"
            elif needed is None or (needed not in waiting and all(one.job != needed for one in self.running)):
                waiting.remove(job)
                self.running.append(self._start(job))

    def _start(self, job: Job) -> Running:
        path = self.study.folder / "jobs" / f"{job.name}.toml"
        log = self.study.folder / "logs" / f"{job.name}.log"
        path.write_text(tomli_w.dumps(self._recipe(job).model_dump(exclude_none=True)), encoding="utf-8")
        control = [job.control.name] if job.control else []
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "fipo.study.run", str(path), *control],
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


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1].removeprefix("fipo: ") if lines else f"see {log}"
