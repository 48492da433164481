"""`runs/NAME/`: the single source of truth of a run, which every report reads."""

import json
import math
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomli_w

from fipo.errors import UserError
from fipo.files import refuse_odd
from fipo.telemetry.durable import append_line, disk_errors, remove, replace_file
from fipo.telemetry.lines import parse_line, read_lines, whole_lines
from fipo.telemetry.rollouts import NUMBERS, RolloutRecord, read_rollouts, write_rollouts

STEP_FILE = re.compile(r"step_([0-9]{6,})(\.jsonl|_update_[0-9]+\.(json|safetensors))")  # rollouts, anomalies


class RunDirectory:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.metrics = path / "metrics.jsonl"
        self.failed_grades = path / "failed_grades.jsonl"
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
        """Raises UserError if it is not what a run wrote: tables."""
        refuse_odd(self.config)
        try:
            config = tomllib.loads(self.config.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{self.config}: damaged: {error}") from None
        for name, table in config.items():
            if not isinstance(table, dict):
                raise UserError(f"{self.config}: damaged: {name} must be a table, got {table!r:.80}")
        return config

    def append_metrics(self, values: dict[str, float | int]) -> dict[str, float | int]:
        """One line of JSON, on disk when this returns: the values that are finite."""
        finite = _finite(values)
        append_line(self.metrics, json.dumps(finite, allow_nan=False))
        return finite

    def read_metrics(self) -> list[dict[str, float]]:
        """One dict per step, in order; [] for a run without metrics yet. Raises UserError for what is no step."""
        if not self.metrics.is_file():
            return []
        lines = read_lines(self.metrics)
        refuse_what_is_no_step(self.metrics, lines)
        return lines

    def whole_steps(self) -> list[tuple[bytes, dict[str, float]]]:
        """The lines of the steps 0, 1, 2, ... as they are and as they read, up to the first that is anything else."""
        found: list[tuple[bytes, dict[str, float]]] = []
        if not self.metrics.exists():
            return found
        for number, line in enumerate(whole_lines(self.metrics)):
            try:
                values = parse_line(self.metrics, number + 1, line)
            except UserError:
                break
            if _what_is_wrong(values) or values["step"] != number or None in values.values():
                break
            found.append((line, values))
        return found

    def append_failures(self, step: int, what: str, *, all_failed: bool = False) -> None:
        """A line of `failed_grades.jsonl`, for who has to mend the grader: what the grades of a step failed of."""
        line = {"step": step, "what": what, "all_failed": all_failed}
        append_line(self.failed_grades, json.dumps(line))

    def read_failures(self) -> list[dict[str, Any]]:
        """[] where no grade has failed. Raises UserError for a line that is none of `append_failures`."""
        if not self.failed_grades.is_file():
            return []
        lines = read_lines(self.failed_grades)
        for number, line in enumerate(lines, start=1):
            if not isinstance(line, dict) or [*map(type, line.values())] != [int, str, bool]:
                raise UserError(f"{self.failed_grades}, line {number}: must say what failed, got {line!r:.80}")
        return lines

    def forget_failures(self, after: int = -1) -> None:
        """Those after a step."""
        kept = [json.dumps(line) + "\n" for line in self.read_failures() if line["step"] <= after]
        if kept:
            replace_file(self.failed_grades, "".join(kept).encode())
        else:
            self.failed_grades.unlink(missing_ok=True)

    def newest_checkpoint(self) -> Path | None:
        return next(reversed(self.all_checkpoints()), None)

    def all_checkpoints(self) -> list[Path]:
        """The whole checkpoints, oldest first."""
        named = [path for path in self.checkpoints.glob("step_*") if re.fullmatch(r"step_[0-9]{6,}", path.name)]
        return sorted(named, key=lambda path: int(path.name.removeprefix("step_")))

    def write_rollouts(self, step: int, records: Iterable[RolloutRecord]) -> Path:
        """`rollouts/step_NNNNNN.jsonl`, one response per line; the folder is made again if somebody removed it."""
        with suppress(OSError):  # writing into it says what is wrong
            self.rollouts.mkdir(exist_ok=True)
        path = self._rollouts_of(step)
        write_rollouts(path, records)
        return path

    def read_rollouts(self, step: int) -> list[RolloutRecord]:
        """Raises UserError for a line that is damaged or no rollout."""
        return read_rollouts(self._rollouts_of(step))

    def rollout_files(self) -> dict[int, Path]:
        """The file of each step that has recorded rollouts, in order."""
        named = [path for path in self.rollouts.glob("step_*.jsonl") if re.fullmatch(r"step_[0-9]{6,}", path.stem)]
        return dict(sorted((int(path.stem.removeprefix("step_")), path) for path in named))

    def step_files(self) -> Iterator[tuple[int, Path]]:
        """The recorded rollouts and anomalies, each with its step; what else is there is not ours."""
        for folder in (self.rollouts, self.anomalies):
            for path in sorted(folder.glob("step_*")):
                if (name := STEP_FILE.fullmatch(path.name)) and path.is_file():
                    yield int(name[1]), path

    def rewind(self, lines: Sequence[bytes]) -> None:
        """Forget all but these steps, the first ones, so that a resumed run writes what follows again, once."""
        replace_file(self.metrics, b"".join(line + b"\n" for line in lines))
        self.forget_failures(after=len(lines) - 1)
        with disk_errors(self.path):
            for step, path in self.step_files():
                if step >= len(lines):
                    path.unlink()
            for folder in (self.path, self.rollouts, self.checkpoints):
                for leftover in folder.glob(".*.tmp"):
                    remove(leftover)

    def _rollouts_of(self, step: int) -> Path:
        return self.rollouts / f"step_{step:06d}.jsonl"


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    """The values without those that are not finite, which JSON cannot hold."""
    return {key: value for key, value in values.items() if not isinstance(value, float) or math.isfinite(value)}


def refuse_what_is_no_step(path: Path, lines: Sequence[Any]) -> None:
    """Raise UserError for the first of the lines of `path` that is not a step's."""
    for number, line in enumerate(lines, start=1):
        if wrong := _what_is_wrong(line):
            raise UserError(f"{path}, line {number}: must be {wrong}")


def _what_is_wrong(line: Any) -> str | None:
    if not isinstance(line, dict) or type(line.get("step")) is not int:
        return f"an object with a step, got {line!r:.80}"
    return next(
        (f"numbers, got {key} = {value!r:.80}" for key, value in line.items() if type(value) not in NUMBERS), None
    )
