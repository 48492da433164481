"""A run of verl as a run directory of ours, for `fipo report`: `python -m fipo.launch.collect METRICS --out runs/NAME`.

METRICS are the files of verl's `file` logger (one per start of the job: a step that is there again counts as it is in
the later one); --credit and --dumps are the folders of `policy_loss.credit_dir` and `trainer.rollout_data_dir`.
"""

import argparse
import json
import math
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fipo.errors import UserError
from fipo.telemetry.run_directory import RunDirectory

NAMES = {  # verl's keys, and ours for the same quantity
    "actor/entropy": "policy/entropy",
    "actor/grad_norm": "policy/grad_norm",
    "actor/loss": "policy/loss",
    "actor/lr": "update/learning_rate",
    "critic/score/mean": "reward/mean",  # of the groups that were kept
    "response_length/mean": "response_length/mean",
    "response_length/min": "response_length/min",
    "response_length/max": "response_length/max",
    "response_length/clip_ratio": "response_length/truncated",
    "timing_s/gen": "time/generate",
    "timing_s/old_log_prob": "time/old_logprobs",
    "timing_s/update_actor": "time/update",
    "timing_s/step": "time/step",
    "perf/throughput": "time/tokens_per_second",
}
VALIDATION = re.compile(r"val-core/(?P<source>.+)/acc/(?P<what>mean|maj|best)@(?P<samples>[0-9]+)(?P<mean>/mean)?")
ESTIMATES = {"mean": "eval/avg_at_k", "maj": "eval/cons_at_k", "best": "eval/pass_at_k"}


def collect(metrics: Sequence[Path], out: Path, *, credit: Path | None, dumps: Path | None) -> RunDirectory:
    """Write the run directory `out`.

    Raises UserError if there is one already, and for a file that is not what verl or the plugin writes.
    """
    steps = {step: values for path in metrics for step, values in _verl_steps(path)}
    if not steps:
        raise UserError(f"{metrics[0]}: holds no steps")
    translated = [{"step": step, **translate(steps[step])} for step in sorted(steps)]
    rollouts = _rollouts(credit, dumps)
    run = RunDirectory(out)
    run.create({"run": {"name": out.name}, "verl": {"metrics": [str(path) for path in metrics]}})
    for line in translated:
        run.append_metrics(line)
    for step, records in rollouts.items():
        run.write_rollouts(step, records)
    return run


def translate(values: dict[str, Any]) -> dict[str, float]:
    """The metrics of a step of verl under our names; what has no such name keeps its own behind `verl/`."""
    numbers = {key: value for key, value in values.items() if isinstance(value, int | float)}
    ours = {_name(key): float(value) for key, value in numbers.items()}
    for key in [key for key in ours if key.endswith("/mean_square")]:
        stem = key.removesuffix("/mean_square")
        ours[f"{stem}/std"] = math.sqrt(max(0.0, ours.pop(key) - ours[f"{stem}/mean"] ** 2))
    return ours | _evaluation(numbers)


def _name(key: str) -> str:
    if key.startswith(("actor/fipo/", "actor/policy/")):
        return key.removeprefix("actor/")
    return NAMES.get(key, f"verl/{key}")


def _evaluation(values: dict[str, float]) -> dict[str, float]:
    """Of the most samples that verl evaluated with; the mean over data sources where there are several."""
    found: dict[str, dict[int, list[float]]] = {}
    for key, value in values.items():
        if (match := VALIDATION.fullmatch(key)) and (match["what"] == "mean") == (match["mean"] is None):
            found.setdefault(ESTIMATES[match["what"]], {}).setdefault(int(match["samples"]), []).append(value)
    return {
        name: sum(by_samples[max(by_samples)]) / len(by_samples[max(by_samples)]) for name, by_samples in found.items()
    }


def _verl_steps(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line in _lines(path):
        if not isinstance(line.get("data"), dict) or not isinstance(line.get("step"), int):
            raise UserError(
                f"{path}: each line must have step and data, as verl's file logger writes, got {line!r:.80}"
            )
        yield line["step"], line["data"]


def _rollouts(credit: Path | None, dumps: Path | None) -> dict[int, list[dict[str, Any]]]:
    """By step: responses with their credit as they are, then those that verl dumped."""
    found: dict[int, list[dict[str, Any]]] = {}
    for path in sorted(credit.glob("step_*.jsonl")) if credit else []:
        for record in _lines(path):
            found.setdefault(int(record["step"]), []).append(record)
    for path in sorted(dumps.glob("*.jsonl")) if dumps else []:
        for dumped in _lines(path):
            record = {
                "step": dumped["step"],
                "prompt": dumped["input"],
                "response": dumped["output"],
                "expected": dumped["gts"],
                "reward": dumped["score"],
            }
            found.setdefault(int(record["step"]), []).append(record)
    return found


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        raise UserError(f"{path}: not JSON lines: {error}") from None
    if not all(isinstance(line, dict) for line in lines):
        raise UserError(f"{path}: each line must be a JSON object")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 2 with one line for a mistake of the user."""
    parser = argparse.ArgumentParser(
        prog="python -m fipo.launch.collect", description="A run of verl as a run directory."
    )
    parser.add_argument("metrics", type=Path, nargs="+", metavar="METRICS", help="of verl's file logger, oldest first")
    parser.add_argument("--credit", type=Path, metavar="DIR", help="policy_loss.credit_dir of the job")
    parser.add_argument("--dumps", type=Path, metavar="DIR", help="trainer.rollout_data_dir of the job")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="the run directory to write")
    options = parser.parse_args(arguments)
    try:
        run = collect(options.metrics, options.out, credit=options.credit, dumps=options.dumps)
    except UserError as error:
        print(f"fipo: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"fipo: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    print(f"{run.path}: {len(run.read_metrics())} steps; fipo report {run.path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
