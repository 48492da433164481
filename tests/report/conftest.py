"""Run directories as the trainer writes them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.report.browser import browser, open_page

from fipo.report.figures import all_figures, used_keys
from fipo.telemetry.run_directory import RunDirectory

__all__ = ["browser", "open_page"]  # fixtures


def evaluation(greedy: float, avg: float, passed: float, length: float) -> dict[str, float]:
    values = {"greedy": greedy, "avg_at_k": avg, "pass_at_k": passed}
    return {
        **{f"eval/{name}": value for name, value in values.items()},
        "eval/cons_at_k": avg + 0.125,
        **{f"eval/ci/{name}/low": value - 0.0625 for name, value in values.items()},
        **{f"eval/ci/{name}/high": value + 0.03125 for name, value in values.items()},
        "eval/reward": 2 * avg - 1,
        "eval/response_length/mean": length,
        "time/eval": 30.0,
    }


def training(step: int) -> dict[str, float]:
    """A different value for each key that a figure shows, uneven over the steps."""
    keys = [key for key in used_keys(all_figures()) if not key.startswith("eval/")]
    return {
        **{key: number / 8 + step % 3 / 64 + step / 1024 for number, key in enumerate(keys)},
        "time/step": 15.0,
    }


@pytest.fixture(scope="session")
def finished_run() -> Callable[..., RunDirectory]:
    """Writes a run of four steps with an evaluation before, in the middle and after."""

    def write(path: Path, samples: int = 8, steps: int = 4, seed: int = 0, preset: str = "dapo") -> RunDirectory:
        run = RunDirectory(path)
        run.create(
            {
                "run": {"name": path.name, "seed": seed, "steps": 4},
                "objective": {"preset": preset},
                "eval": {"samples": samples, "every": 2},
            }
        )
        run.append_metrics({"step": 0, **evaluation(0.25, 0.125, 0.5, 24.25)})
        for step in range(1, steps + 1):
            line = {"step": step, **{key: value + seed / 4 for key, value in training(step).items()}}
            if step % 2 == 0:
                line |= evaluation(0.25 + 0.0875 * step, 0.125 + 0.1 * step, 0.5 - 0.01 * step, 24.25 + 2.1 * step)
            run.append_metrics(line)
        return run

    return write


@pytest.fixture
def make_run(finished_run: Callable[..., RunDirectory], tmp_path: Path) -> Callable[..., RunDirectory]:
    return lambda name="first", **options: finished_run(tmp_path / name, **options)
