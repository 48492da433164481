"""The metrics of all runs of a study in one small file, from which its outcome can be computed again."""

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fipo.errors import UserError
from fipo.study.config import Job
from fipo.telemetry.durable import replace_file
from fipo.telemetry.run_directory import RunDirectory

KEPT = (  # the families of keys that are kept; the rest is speed, and what these already say
    "eval/",
    "fipo/influence_weight/",
    "fipo/raw_influence_weight/",
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
DIGITS = 7  # significant


@dataclass(frozen=True, kw_only=True)
class ArchivedRun:
    arm: str
    seed: int
    failure: str | None  # why it did not come to its end
    lines: list[dict[str, float]]  # of metrics.jsonl


def write_archive(path: Path, jobs: Sequence[Job], failures: Mapping[str, str]) -> None:
    """One line of JSON for each run that has begun or failed, gzip; the same bytes for the same metrics."""
    lines = []
    for job in jobs:
        metrics = RunDirectory(job.folder).read_metrics()
        if metrics or job.name in failures:
            lines.append(json.dumps(_record(job, metrics, failures.get(job.name)), separators=(",", ":")))
    replace_file(path, gzip.compress("".join(line + "\n" for line in lines).encode(), mtime=0))


def _record(job: Job, metrics: Sequence[dict[str, float]], failure: str | None) -> dict[str, Any]:
    keys = sorted({key for line in metrics for key in line if key == "step" or key.startswith(KEPT)})
    return {
        "arm": job.arm,
        "seed": job.seed,
        "failure": failure,
        "columns": {key: [_short(line.get(key)) for line in metrics] for key in keys},
    }


def _short(value: float | None) -> float | None:
    if value is None or value == int(value):
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
    return ArchivedRun(arm=record["arm"], seed=record["seed"], failure=record["failure"], lines=lines)
