"""A run directory with the quickstart's recorded metrics, changed as a test wants."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fipo.doctor.run.history import History
from fipo.telemetry.run_directory import RunDirectory

QUICKSTART = [
    json.loads(line) for line in (Path(__file__).parent / "quickstart_metrics.jsonl").read_text().splitlines()
]
CONFIG: dict[str, Any] = {
    "run": {"name": "quickstart", "steps": 50},
    "grading": {"on_failure": "zero"},
    "rollout": {"groups": 16},
    "reward": {"mask_truncated": False},
    "objective": {"preset": "release_32b"},
    "update": {"mini_batches": 4, "max_skipped": 3},
    "resolved": {"objective": {"half_life": 32.0, "influence_clip": [1.0, 1.2], "dual_clip": 10.0}},
}

Change = Callable[[int, dict[str, float]], dict[str, float]]


def changed(change: Change, steps: int = 50) -> list[dict[str, float]]:
    """The quickstart's lines, repeated to `steps`, each with `change(step, line)` on top; None takes a key away."""
    lines = QUICKSTART[:1] + [QUICKSTART[1 + (step - 1) % 50] | {"step": step} for step in range(1, steps + 1)]
    lines = [line | (change(int(line["step"]), line) if line["step"] else {}) for line in lines]
    return [{key: value for key, value in line.items() if value is not None} for line in lines]


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., RunDirectory]:
    def make(lines: list[dict[str, float]] = QUICKSTART, **tables: dict[str, Any]) -> RunDirectory:
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        run = RunDirectory(tmp_path / "run")
        run.create({name: CONFIG.get(name, {}) | tables.get(name, {}) for name in CONFIG | tables})
        run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
        return run

    return make


@pytest.fixture
def history(make_run: Callable[..., RunDirectory]) -> Callable[..., History]:
    """`history(lambda step, line: {...}, steps=50, update={"mini_batches": 1})`."""

    def make(change: Change = lambda step, line: {}, steps: int = 50, **tables: dict[str, Any]) -> History:
        run = make_run(changed(change, steps), **tables)
        return History(run, run.read_metrics())

    return make
