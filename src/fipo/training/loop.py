"""A whole run: evaluate, step, evaluate, checkpoint, until done or interrupted."""

import os
import platform
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

from fipo.errors import RunStopped, UserError
from fipo.evaluation import evaluate
from fipo.seeding import derive_seed
from fipo.telemetry.clock import Clock
from fipo.telemetry.progress import TrainingProgress
from fipo.telemetry.run_directory import RunDirectory
from fipo.training.checkpoint import Position, restore, save
from fipo.training.config import Recipe
from fipo.training.setup import Say, Setup, set_up
from fipo.training.step import ShortBatch, train_step

FREE_TO_CHANGE = {"run.steps", "run.folder", "run.name", "checkpoint.every", "checkpoint.keep"}  # on --resume


def train(recipe: Recipe, *, resume: bool = False) -> RunDirectory:
    """Run the recipe to its end; with `resume`, on from its last checkpoint if there is one.

    Raises UserError for what the user can mend, RunStopped for a run that ended early with its state saved.
    """
    run = RunDirectory(Path(recipe.run.folder) / recipe.run.name)
    continued = resume and run.config.exists()
    if continued:
        _check_same_recipe(recipe, run)
    else:
        run.refuse_if_begun()
    with TrainingProgress(steps=recipe.run.steps) as progress:
        progress.phase("loading")
        setup = set_up(recipe, progress.say)
        position = Position(step=0, problems_taken=0, skipped_updates=0)
        if continued:
            position = _continue(run, setup)
            finished = position.step >= recipe.run.steps
            progress.say(f"{run.path}: {'finished' if finished else 'continuing'} after step {position.step}")
        else:
            run.create(_resolved(recipe))
        _Loop(recipe, run, setup, progress).run_from(position)
    return run


class _Loop:
    def __init__(self, recipe: Recipe, run: RunDirectory, setup: Setup, progress: TrainingProgress) -> None:
        self.recipe = recipe
        self.run = run
        self.trainer = setup.trainer
        self.eval_problems = setup.eval_problems
        self.progress = progress
        self.saved_step: int | None = None  # the last one that this process wrote a checkpoint of

    def run_from(self, position: Position) -> None:
        with _stop_requests(self.progress.say) as stop_requests:
            if not self.run.read_metrics():
                self.run.append_metrics({"step": 0, **self.evaluate(0, Clock())})
            self.progress.start(position.step)
            while position.step < self.recipe.run.steps:
                position = self.step(position)
                if stop_requests and position.step < self.recipe.run.steps:
                    self.checkpoint(position)
                    raise RunStopped(
                        f"interrupted after step {position.step}; add --resume to continue",
                        exit_code=128 + stop_requests[0],
                    )

    def step(self, position: Position) -> Position:
        """One training step, with the evaluation and the checkpoint that are due after it."""
        recipe, step, clock = self.recipe, position.step + 1, Clock()
        last = step == recipe.run.steps
        self.progress.phase("training")
        try:
            record = train_step(self.trainer, step, clock)
        except ShortBatch as error:
            self.checkpoint(position)
            raise RunStopped(f"{error}; the state after step {position.step} is saved") from None
        metrics = record.metrics(recipe, clock)
        position = Position(
            step=step,
            problems_taken=self.trainer.stream.taken,
            skipped_updates=position.skipped_updates + record.skipped_updates,
        )
        self.progress.step(step, metrics)
        if last or step % recipe.eval.every == 0:
            metrics |= self.evaluate(step, clock)
        self.run.write_rollouts(step, record.rollouts(self.trainer.roller.tokenizer, recipe.telemetry.rollout_groups))
        self.run.append_metrics({"step": step, **metrics})
        if position.skipped_updates > recipe.update.max_skipped:
            raise RunStopped(
                f"step {step}: {position.skipped_updates} updates had a loss or gradient that was not finite, more "
                f"than update.max_skipped = {recipe.update.max_skipped}; the last checkpoint is untouched"
            )
        if last or step % recipe.checkpoint.every == 0:
            self.checkpoint(position)
        return position

    def evaluate(self, step: int, clock: Clock) -> dict[str, float]:
        """The same problems with the same random numbers each time, so that two evaluations can be compared."""
        self.progress.phase("evaluating")
        settings = self.recipe.eval
        with clock.phase("eval"):
            evaluation = evaluate(
                self.trainer.roller,
                self.eval_problems,
                samples=settings.samples,
                temperature=settings.temperature,
                top_p=settings.top_p,
                max_tokens=self.recipe.rollout.max_response_tokens,
                seed=derive_seed(self.recipe.run.seed, "eval"),
                clock=Clock(),
            )
        metrics = evaluation.metrics()
        self.progress.say(
            f"after step {step}: greedy {metrics['eval/greedy']:.3f}  "
            f"avg@{settings.samples} {metrics['eval/avg_at_k']:.3f}  "
            f"pass@{settings.samples} {metrics['eval/pass_at_k']:.3f}  "
            f"on {len(self.eval_problems)} held-out problems"
        )
        return metrics | {"time/eval": clock.seconds["eval"]}

    def checkpoint(self, position: Position) -> None:
        """Save the state after `position.step`, unless that has just been done."""
        if position.step == self.saved_step:
            return
        trainer = self.trainer
        save(
            self.run,
            position,
            trainer.model,
            trainer.roller.tokenizer,
            trainer.optimizer,
            keep=self.recipe.checkpoint.keep,
        )
        self.saved_step = position.step


def _continue(run: RunDirectory, setup: Setup) -> Position:
    """Put weights, optimizer and problem stream where the last checkpoint left them."""
    newest = run.newest_checkpoint()
    if newest is None:
        run.rewind(-1)
        return Position(step=0, problems_taken=0, skipped_updates=0)
    position = restore(newest, setup.trainer.model, setup.trainer.optimizer)
    setup.trainer.stream.taken = position.problems_taken
    run.rewind(position.step)
    return position


def _check_same_recipe(recipe: Recipe, run: RunDirectory) -> None:
    """Raise UserError if the recipe differs from the run's in what could change its result."""
    before, now = _flat(run.read_config()), _flat(recipe.model_dump(exclude_none=True))
    recorded = {key for key in before if not key.startswith(("resolved.", "versions."))}
    differing = sorted(key for key in {*recorded, *now} - FREE_TO_CHANGE if before.get(key) != now.get(key))
    if differing:
        key = differing[0]
        raise UserError(
            f"{run.path}: --resume needs the recipe that the run began with; "
            f"{key} was {before.get(key)!r}, got {now.get(key)!r} (or choose another --run.name)"
        )


def _flat(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": (1, 2)}}` as `{"a.b": [1, 2]}`."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return flat


def _resolved(recipe: Recipe) -> dict[str, Any]:
    """What config.toml holds: the recipe, the objective that its preset stands for, and the versions."""
    algorithm = asdict(recipe.objective.algorithm())
    objective = {key: value for key, value in algorithm.pop("config").items() if value is not None}
    packages = ("fipo", "torch", "transformers")
    return {
        **recipe.model_dump(exclude_none=True),
        "resolved": {**algorithm, "objective": objective},
        "versions": {"python": platform.python_version(), **{package: version(package) for package in packages}},
    }


@contextmanager
def _stop_requests(say: Say) -> Iterator[list[int]]:
    """Collects SIGINT and SIGTERM, so that the step in hand can finish; a second one ends the process at once."""
    requests: list[int] = []

    def request(number: int, _: FrameType | None) -> None:
        if requests:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        requests.append(number)
        say("finishing this step, then saving; once more to quit at once")

    signals = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, request) for number in signals}
    try:
        yield requests
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
