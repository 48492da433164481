"""`runs/NAME/`: the single source of truth of a run, which every report reads."""

import json
import math
import re
import shutil
import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from fipo.errors import UserError
from fipo.telemetry.durable import append_line, disk_errors, replace_file
from fipo.telemetry.lines import read_lines
from fipo.telemetry.rollouts import RolloutRecord, read_rollouts, write_rollouts


class RunDirectory:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.metrics = path / "metrics.jsonl"
        self.rollouts = path / "rollouts"
        self.checkpoints = path / "checkpoints"
        self.anomalies = path / "anomalies"
        self.trackers = path / "trackers"
        self.stall = path / "stall.txt"
        self.report = path / "report.html"

    @classmethod
    def existing(cls, path: Path) -> "RunDirectory":
        """The run at `path`. Raises UserError if there is none."""
        run = cls(path)
        if not run.config.is_file():
            raise UserError(f"{path}: not a run directory (it has no config.toml)")
        return run

    def refuse_if_begun(self) -> None:
        """Raise UserError if a run is already there."""
        if self.config.exists():
            raise UserError(
                f"{self.path}: a run is already there; add --resume to continue it, or choose another --run.name"
            )
        if self.metrics.exists() or self.all_checkpoints():
            raise UserError(f"{self.path}: what is left of a run is there, without its config.toml; move it away")

    def create(self, config: dict[str, Any]) -> None:
        """Make the folders and config.toml. Raises UserError if a run is already there, DiskError if it cannot."""
        self.refuse_if_begun()
        with disk_errors(self.path):
            self.rollouts.mkdir(parents=True, exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
        self.write_config(config)

    def write_config(self, config: dict[str, Any]) -> None:
        replace_file(self.config, tomli_w.dumps(config).encode())

    def read_config(self) -> dict[str, Any]:
        """Raises UserError if it is not what a run wrote."""
        try:
            return tomllib.loads(self.config.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{self.config}: damaged: {error}") from None

    def append_metrics(self, values: dict[str, float | int]) -> None:
        """One line of JSON, on disk when this returns."""
        append_line(self.metrics, json.dumps(_finite(values), allow_nan=False))

    def read_metrics(self) -> list[dict[str, float]]:
        """One dict per step, in order; [] for a run without metrics yet. Raises UserError for what is no step."""
        if not self.metrics.is_file():
            return []
        lines = read_lines(self.metrics)
        refuse_what_is_no_step(self.metrics, lines)
        return lines

    def newest_checkpoint(self) -> Path | None:
        return next(reversed(self.all_checkpoints()), None)

    def all_checkpoints(self) -> list[Path]:
        """The whole checkpoints, oldest first."""
        named = [path for path in self.checkpoints.glob("step_*") if re.fullmatch(r"step_[0-9]{6,}", path.name)]
        return sorted(named, key=lambda path: int(path.name.removeprefix("step_")))

    def write_rollouts(self, step: int, records: Iterable[RolloutRecord]) -> None:
        """`rollouts/step_NNNNNN.jsonl`, one response per line."""
        write_rollouts(self._rollouts_of(step), records)

    def read_rollouts(self, step: int) -> list[RolloutRecord]:
        """Raises UserError for a line that is damaged or no rollout."""
        return read_rollouts(self._rollouts_of(step))

    def rollout_files(self) -> dict[int, Path]:
        """The file of each step that has recorded rollouts, in order."""
        named = [path for path in self.rollouts.glob("step_*.jsonl") if re.fullmatch(r"step_[0-9]{6,}", path.stem)]
        return dict(sorted((int(path.stem.removeprefix("step_")), path) for path in named))

    def rewind(self, step: int) -> None:
        """Forget what was written after `step` or half-written, so that a resumed run writes it again, once."""
        kept = [line for line in self.read_metrics() if line["step"] <= step]
        replace_file(self.metrics, "".join(json.dumps(line) + "\n" for line in kept).encode())
        with disk_errors(self.path):
            for folder in (self.rollouts, self.anomalies):
                for path in folder.glob("step_*"):
                    if int(path.stem.split("_")[1]) > step:
                        path.unlink()
            for folder in (self.path, self.rollouts, self.checkpoints):
                for leftover in folder.glob(".*.tmp"):
                    shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

    def _rollouts_of(self, step: int) -> Path:
        return self.rollouts / f"step_{step:06d}.jsonl"


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """The values without those that are not finite, which JSON cannot hold."""
    return {key: value for key, value in values.items() if not isinstance(value, float) or math.isfinite(value)}


def refuse_what_is_no_step(path: Path, lines: Sequence[Any]) -> None:
    """Raise UserError for the first of the lines of `path` that is not a step's."""
    for number, line in enumerate(lines, start=1):
        if not isinstance(line, dict) or not isinstance(line.get("step"), int):
            raise UserError(f"{path}, line {number}: must be an object with a step, got {line!r:.80}")
