"""What a run has written down: each checkpoint vouches for the steps before it, and --resume goes on from no others."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fipo.beat import Beat, no_beat
from fipo.errors import UserError
from fipo.telemetry.run_directory import RunDirectory

HISTORY = "history.json"  # in a checkpoint
BEST_BY = ("eval/reward", "eval/avg_at_k")  # the first that a step has: the reward, where graders give numbers


class WrittenHistory:
    """The steps 0, 1, 2, ... of a run and their files, followed as they are written: a save reads none of them."""

    def __init__(self, run: RunDirectory) -> None:
        self.run = run
        self.best: int | None = None  # the trained step that is best by evaluation, the first of them if several tie
        self._highest = float("-inf")
        self._metrics = hashlib.sha256()
        self._files: dict[str, str] = {}  # the SHA-256 of each, by its path in the run directory

    def append(self, values: Mapping[str, float], files: Sequence[Path] = ()) -> None:
        """A step's metrics, on disk when this returns; `files` were written before."""
        self._take(self.run.append_metrics(dict(values)), files)

    def vouched(self) -> str:
        """What a checkpoint says of the steps until now."""
        return json.dumps({"metrics": self._metrics.hexdigest(), "files": self._files})

    def _take(self, values: Mapping[str, float], files: Sequence[Path] = ()) -> None:
        self._metrics.update(_line(values))
        measured = next((values[key] for key in BEST_BY if key in values), self._highest)
        if values["step"] > 0 and measured > self._highest:
            self.best, self._highest = int(values["step"]), measured
        self._files |= {str(path.relative_to(self.run.path)): _sha256(path) for path in files}

    @classmethod
    def again(cls, run: RunDirectory, steps: Sequence[Mapping[str, float]], files: dict[str, str]) -> "WrittenHistory":
        """The history of these steps, written before, with the SHA-256 of their files."""
        history = cls(run)
        for values in steps:
            history._take(values)
        history._files = dict(files)
        return history


class FoundHistory:
    """What is left of a run's history when it is resumed."""

    def __init__(self, run: RunDirectory, beat: Beat = no_beat) -> None:
        """`beat` is called after each file that is read."""
        self.run = run
        self._beat = beat
        self._steps = run.whole_steps()
        self._digests: dict[str, str | None] = {}

    def misfit(self, checkpoint: Path, step: int) -> str | None:
        """Why the run cannot go on from this checkpoint, which is whole itself; None if it can.

        Files that are not there are no reason: rollouts may be removed to save space. Checkpoints of earlier
        versions vouch for nothing, and need the steps alone.
        """
        if len(self._steps) <= step:
            there = f"the steps 0 to {len(self._steps) - 1} alone" if self._steps else "none of them"
            return f"{self.run.metrics} must hold the steps 0 to {step} and holds {there}"
        vouched = _vouched(checkpoint)
        if vouched is None:
            return None
        metrics = hashlib.sha256(b"".join(_line(values) for _, values in self._steps[: step + 1]))
        if metrics.hexdigest() != vouched["metrics"]:
            return f"{self.run.metrics} is not what was written (its SHA-256 until step {step} is another)"
        for name, expected in vouched["files"].items():
            if self._digest(name) not in (None, expected):
                return f"{self.run.path / name} is not what was written (its SHA-256 is another)"
        return None

    def refuse_lost_checkpoints(self) -> None:
        """To be called where there is none. Raises UserError if there must have been some, which is no beginning."""
        run, config = self.run, self.run.read_config()
        reached = max([len(self._steps) - 1, *(step for step, _ in run.step_files())])
        first = min(config["checkpoint"]["every"], config["eval"]["every"], config["run"]["steps"])
        if reached > (first if run.checkpoints.is_dir() else 0):
            raise UserError(
                f"{run.checkpoints}: its checkpoints are gone, and the run had got to step {reached}: bring them back "
                "(is the disk mounted?), or begin again under another --run.name"
            )

    def rewound(self, step: int, checkpoint: Path | None) -> tuple[WrittenHistory, list[dict[str, float]]]:
        """Forget what was written after `step`, that of `checkpoint`: the history until then, and its metrics."""
        kept = self._steps[: step + 1]
        self.run.rewind([line for line, _ in kept])
        metrics = [values for _, values in kept]
        vouched = _vouched(checkpoint) if checkpoint else None
        if vouched is None:
            files = {str(path.relative_to(self.run.path)): _sha256(path) for _, path in self.run.step_files()}
        else:
            files = vouched["files"]
        return WrittenHistory.again(self.run, metrics, files), metrics

    def missing(self, checkpoint: Path) -> list[str]:
        """The files that a checkpoint vouches for and that are gone."""
        vouched = _vouched(checkpoint) or {"files": {}}
        return [name for name in vouched["files"] if self._digest(name) is None]

    def _digest(self, name: str) -> str | None:
        if name not in self._digests:
            path = self.run.path / name
            self._digests[name] = _sha256(path) if path.is_file() else None
            self._beat()
        return self._digests[name]


def _vouched(checkpoint: Path) -> dict[str, Any] | None:
    """What a checkpoint, which is whole, says of the steps until it; None of an earlier version."""
    path = checkpoint / HISTORY
    return dict(json.loads(path.read_bytes())) if path.exists() else None


def _line(values: Mapping[str, Any]) -> bytes:
    """A step's line without its times, which differ from run to run."""
    return json.dumps({key: value for key, value in values.items() if not key.startswith("time/")}).encode() + b"\n"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
