"""The metrics of a study's runs in one small file: its outcome is computed from it, and the study goes on from it."""

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fipo.doctor.findings import CannotTell
from fipo.doctor.run.history import History
from fipo.doctor.run.spread import flipped_control
from fipo.errors import UserError
from fipo.study.config import Job
from fipo.telemetry.durable import replace_file
from fipo.telemetry.run_directory import RunDirectory

KEPT = (  # the families of keys that are kept; the rest is speed, and what these already say
    "eval/",
    "fipo/future_kl_noise",
    "fipo/influence_weight/",
    "fipo/ratio_mean",
    "fipo/raw_influence_weight/",
    "fipo/response_signal",
    "fipo/rounding/",
    "fipo/safety_capped",
    "groups/",
    "policy/clip_fraction",
    "policy/dual_clip_fraction",
    "policy/entropy",
    "policy/filtered_sequences",
    "policy/grad_norm",
    "policy/kl",
    "response_length/",
    "reward/",
    "accuracy/",
    "advantage/",
    "update/",
)
DIGITS = 6  # significant
SPREAD = "fipo/spread_over_flipped"  # of the FutureKL within responses over that with random signs; /low, /high


@dataclass(frozen=True, kw_only=True)
class ArchivedRun:
    arm: str
    seed: int
    recipe: str  # `Job.fingerprint`
    failure: str | None  # why it did not come to its end
    lines: list[dict[str, float]]  # of metrics.jsonl

    @property
    def name(self) -> str:
        return f"{self.arm}_seed_{self.seed}"


class Archive:
    """The file `path` and what it holds, by the runs' names; written whenever a run is added."""

    def __init__(self, path: Path) -> None:
        """Raises UserError for a file that is not an archive."""
        self.path = path
        self.runs = {run.name: run for run in read_archive(path)} if path.is_file() else {}

    def check(self, jobs: Iterable[Job]) -> None:
        """Raise UserError if one of the jobs was run with another recipe."""
        for job in jobs:
            if job.name in self.runs and self.runs[job.name].recipe != job.fingerprint:
                raise UserError(f"{self.path}: {job.name} was run with another recipe; choose another --study.name")

    def finished(self, job: Job) -> bool:
        return job.name in self.runs and not self.runs[job.name].failure

    def add(self, job: Job, failure: str | None = None) -> None:
        """The run of `job` as its folder has it now."""
        lines = RunDirectory(job.folder).read_metrics()
        kept = [{key: _short(value) for key, value in line.items() if _is_kept(key)} for line in lines]
        if kept:
            kept[-1] |= _spread(job, lines)
        run = ArchivedRun(arm=job.arm, seed=job.seed, recipe=job.fingerprint, failure=failure, lines=kept)
        self.runs[run.name] = run
        write_archive(self.path, list(self.runs.values()))


def _is_kept(key: str) -> bool:
    return key == "step" or key.startswith(KEPT)


def _spread(job: Job, lines: Sequence[dict[str, float]]) -> dict[str, float]:
    """How far the spread of the FutureKL is from that with random signs; {} where too few rollouts were recorded."""
    try:
        control = flipped_control(History(RunDirectory(job.folder), lines), steps=job.recipe.run.steps)
    except CannotTell:
        return {}
    return {SPREAD: _short(control.ratio), f"{SPREAD}/low": _short(control.low), f"{SPREAD}/high": _short(control.high)}


def write_archive(path: Path, runs: Sequence[ArchivedRun]) -> None:
    """One line of JSON for each run, sorted, gzip; the same bytes for the same metrics."""
    ordered = sorted(runs, key=lambda run: (run.seed, run.arm))
    lines = [json.dumps(_record(run), separators=(",", ":")) + "\n" for run in ordered]
    replace_file(path, gzip.compress("".join(lines).encode(), mtime=0))


def _record(run: ArchivedRun) -> dict[str, Any]:
    keys = sorted({key for line in run.lines for key in line})
    return {
        "arm": run.arm,
        "seed": run.seed,
        "recipe": run.recipe,
        "failure": run.failure,
        "columns": {key: [line.get(key) for line in run.lines] for key in keys},
    }


def _short(value: float) -> float:
    if value == int(value):
        return value
    return float(f"{value:.{DIGITS}g}")


def read_archive(path: Path) -> list[ArchivedRun]:
    """Raises UserError for a file that is not there or not an archive."""
    try:
        records = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
        return [_run(record) for record in records]
    except FileNotFoundError:
        raise UserError(f"{path}: no such archive of a study") from None
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not an archive of a study: {error}") from None


def _run(record: dict[str, Any]) -> ArchivedRun:
    columns = record["columns"]
    count = len(columns.get("step", []))
    lines = [{key: values[i] for key, values in columns.items() if values[i] is not None} for i in range(count)]
    return ArchivedRun(**{key: record[key] for key in ("arm", "seed", "recipe", "failure")}, lines=lines)
