"""A run of verl as a run directory of ours, for `fipo report`, `fipo doctor` and `fipo eval`.

python -m fipo.integrations.verl.launch.collect recipe/fipo/X.toml CKPTS/metrics_*.jsonl --out runs/cluster

The recipe comes with the overrides and the environment that the job was launched with. The metrics are the files of
verl's `file` logger, one per start of the job, oldest first: what a later one says of a step again is what counts.
--credit and --dumps are the folders of `policy_loss.credit_dir` and `trainer.rollout_data_dir`.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

from fipo.errors import UserError
from fipo.integrations.verl.launch.recipe import LaunchRecipe, load_launch_recipe
from fipo.integrations.verl.launch.translate import check_batches, config_of, translate
from fipo.recipe.toml import split_overrides
from fipo.telemetry.exit_codes import exit_code_of
from fipo.telemetry.lines import whole_lines
from fipo.telemetry.rollouts import RolloutRecord
from fipo.telemetry.run_directory import RunDirectory

CREDIT = ("step", "prompt", "response")
DUMP = ("step", "input", "output", "gts", "score", "uid")


def collect(
    recipe: LaunchRecipe, metrics: Sequence[Path], out: Path, *, credit: Path | None, dumps: Path | None
) -> RunDirectory:
    """Write the run directory `out`.

    Raises UserError if there is one already, for a file that is not what verl or the plugin writes, and for a recipe
    that is not the job's.
    """
    steps: dict[int, dict[str, Any]] = {}
    for path in metrics:
        for line in _lines(path, ("step", "data")):
            if not isinstance(line["data"], dict):
                raise UserError(f"{path}: data must be an object, got {line['data']!r:.80}")
            steps.setdefault(line["step"], {}).update(line["data"])  # a start begins with an evaluation of its step
    if not steps:
        raise UserError(f"{metrics[0]}: holds no steps")
    check_batches(steps, recipe)
    translated = [{"step": step, **translate(steps[step], recipe)} for step in sorted(steps)]
    config = config_of(recipe, out.name, steps.values())
    rollouts = _rollouts(credit, dumps)
    run = RunDirectory(out)
    run.create(config)
    for line in translated:
        run.append_metrics(line)
    for step, records in rollouts.items():
        run.write_rollouts(step, records)
    return run


def _rollouts(credit: Path | None, dumps: Path | None) -> dict[int, list[RolloutRecord]]:
    """By step: responses with their credit as they are, then those that verl dumped."""
    found: dict[int, list[RolloutRecord]] = {}
    for path in _files(credit, "step_*.jsonl"):
        for record in _lines(path, CREDIT):
            found.setdefault(record["step"], []).append(cast(RolloutRecord, record))
    for path in _files(dumps, "*.jsonl"):
        for dumped in _lines(path, DUMP):
            sampled = RolloutRecord(
                step=dumped["step"],
                problem=dumped["uid"].rsplit("_", 2)[0],  # the same for the responses of a group
                prompt=dumped["input"],
                response=dumped["output"],
                expected=dumped["gts"],
                reward=dumped["score"],
            )
            found.setdefault(dumped["step"], []).append(sampled)
    return found


def _files(folder: Path | None, pattern: str) -> list[Path]:
    if folder is None:
        return []
    found = sorted(folder.glob(pattern))
    if not found:
        raise UserError(f"{folder}: holds no {pattern}")
    return found


def _lines(path: Path, keys: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The lines that were written whole: a job that was killed can leave half of one at the end."""
    for number, text in enumerate(whole_lines(path), start=1):
        try:
            line = json.loads(text)
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not JSON: {error}") from None
        if not isinstance(line, dict) or not set(keys) <= line.keys() or not isinstance(line["step"], int):
            raise UserError(f"{path}, line {number}: must be an object with {', '.join(keys)}, got {line!r:.80}")
        yield line


def main(arguments: Sequence[str] | None = None) -> int:
    """0, or 2 with one line for a mistake of the user."""
    parser = argparse.ArgumentParser(
        prog="python -m fipo.integrations.verl.launch.collect",
        usage="%(prog)s RECIPE.toml METRICS... --out RUN [--credit DIR] [--dumps DIR] [--section.key value ...]",
        description="A run of verl as a run directory.",
        allow_abbrev=False,
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE", help="of the job, with the overrides that it had")
    parser.add_argument("metrics", type=Path, nargs="+", metavar="METRICS", help="of verl's file logger, oldest first")
    parser.add_argument("--credit", type=Path, metavar="DIR", help="policy_loss.credit_dir of the job")
    parser.add_argument("--dumps", type=Path, metavar="DIR", help="trainer.rollout_data_dir of the job")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="the run directory to write")

    def command() -> int:
        plain, overrides = split_overrides(sys.argv[1:] if arguments is None else arguments)
        options = parser.parse_args(plain)
        recipe = load_launch_recipe(options.recipe, overrides, os.environ)
        run = collect(recipe, options.metrics, options.out, credit=options.credit, dumps=options.dumps)
        print(f"{run.path}: {len(run.read_metrics())} steps; fipo report {run.path}")
        return 0

    return exit_code_of(command)


if __name__ == "__main__":
    sys.exit(main())
