"""Run directories as the trainer writes them."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.report.browser import browser, open_page

from fipo.telemetry.run_directory import RunDirectory

__all__ = ["browser", "open_page"]  # fixtures


def evaluation(greedy: float, avg: float, passed: float, length: float) -> dict[str, float]:
    values = {"greedy": greedy, "avg_at_k": avg, "pass_at_k": passed}
    return {
        **{f"eval/{name}": value for name, value in values.items()},
        **{f"eval/ci/{name}/low": value - 0.0625 for name, value in values.items()},
        **{f"eval/ci/{name}/high": value + 0.03125 for name, value in values.items()},
        "eval/response_length/mean": length,
    }


def training(step: int) -> dict[str, float]:
    return {
        "reward/mean": -0.5 + 0.125 * step,
        "response_length/mean": 20.0 + step,
        "response_length/p25": 10.0 + step,
        "response_length/p75": 30.0 + step,
        "fipo/influence_weight/mean": 1 + step / 64,
        "fipo/influence_weight/min": 1.0,
        "fipo/influence_weight/max": 1.2,
        "policy/entropy": 0.5 - step / 64,
        "policy/kl": step / 1024,
        "policy/clip_fraction": step / 512,
        "policy/dual_clip_fraction": 0.0,
        "policy/grad_norm": 0.75,
    }


@pytest.fixture(scope="session")
def finished_run() -> Callable[..., RunDirectory]:
    """Writes a run of four steps with an evaluation before, in the middle and after."""

    def write(path: Path, samples: int = 8, steps: int = 4) -> RunDirectory:
        run = RunDirectory(path)
        run.create({"run": {"name": path.name}, "eval": {"samples": samples, "every": 2}})
        run.append_metrics({"step": 0, **evaluation(0.25, 0.125, 0.5, 24.25)})
        for step in range(1, steps + 1):
            line = {"step": step, **training(step)}
            if step % 2 == 0:
                line |= evaluation(0.25 + 0.0875 * step, 0.125 + 0.1 * step, 0.5 - 0.01 * step, 24.25 + 2.1 * step)
            run.append_metrics(line)
        return run

    return write


@pytest.fixture
def make_run(finished_run: Callable[..., RunDirectory], tmp_path: Path) -> Callable[..., RunDirectory]:
    return lambda name="first", **options: finished_run(tmp_path / name, **options)
