"""`runs/NAME/`: the single source of truth of a run, which every report reads."""

import json
import math
import os
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import tomli_w

from fipo.errors import UserError


class RunDirectory:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.metrics = path / "metrics.jsonl"
        self.rollouts = path / "rollouts"
        self.checkpoints = path / "checkpoints"
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

    def create(self, config: dict[str, Any]) -> None:
        """Make the folders and config.toml. Raises UserError if they cannot be made or a run is already there."""
        self.refuse_if_begun()
        try:
            self.rollouts.mkdir(parents=True, exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"{self.path}: cannot make the run directory: {error.strerror}") from None
        replacement = self.config.with_suffix(".new")
        replacement.write_text(tomli_w.dumps(config), encoding="utf-8")
        replacement.replace(self.config)

    def read_config(self) -> dict[str, Any]:
        return tomllib.loads(self.config.read_text(encoding="utf-8"))

    def append_metrics(self, values: dict[str, float | int]) -> None:
        """One line of JSON, on disk when this returns."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_finite(values), allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def read_metrics(self) -> list[dict[str, float]]:
        """One dict per step, in order; [] for a run without metrics yet."""
        if not self.metrics.is_file():
            return []
        return _read_lines(self.metrics)

    def newest_checkpoint(self) -> Path | None:
        return max(self.all_checkpoints(), default=None)

    def all_checkpoints(self) -> list[Path]:
        """The whole checkpoints, oldest first."""
        return sorted(self.checkpoints.glob("step_*"))

    def write_rollouts(self, step: int, records: Iterable[dict[str, Any]]) -> None:
        """`rollouts/step_NNNNNN.jsonl`, one response per line."""
        lines = [json.dumps(record, ensure_ascii=False) + "\n" for record in records]
        self._rollouts_of(step).write_text("".join(lines), encoding="utf-8")

    def read_rollouts(self, step: int) -> list[dict[str, Any]]:
        return _read_lines(self._rollouts_of(step))

    def rewind(self, step: int) -> None:
        """Forget what was written after `step`, so that a resumed run writes it again, once."""
        kept = [line for line in self.read_metrics() if line["step"] <= step]
        replacement = self.metrics.with_suffix(".new")
        replacement.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        replacement.replace(self.metrics)
        for path in self.rollouts.glob("step_*.jsonl"):
            if int(path.stem.removeprefix("step_")) > step:
                path.unlink()

    def _rollouts_of(self, step: int) -> Path:
        return self.rollouts / f"step_{step:06d}.jsonl"


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """The values without those that are not finite, which JSON cannot hold."""
    return {key: value for key, value in values.items() if not isinstance(value, float) or math.isfinite(value)}


def _read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines that were written whole: a killed process can leave half of one at the end."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]
