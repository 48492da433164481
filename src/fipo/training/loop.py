"""A whole run: evaluate, step, evaluate, checkpoint, until done or interrupted."""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from fipo.errors import RunStopped, UserError
from fipo.evaluation.runner import evaluate
from fipo.grading.outcomes import too_many_failures
from fipo.grading.panel import BrokenGrader, Panel
from fipo.models.memory import out_of_memory
from fipo.rollout.groups import Group, failures_of
from fipo.seeding import derive_seed
from fipo.telemetry.clock import Clock
from fipo.telemetry.durable import DiskError
from fipo.telemetry.heartbeat import Heartbeat
from fipo.telemetry.progress import TrainingProgress
from fipo.telemetry.run_directory import RunDirectory
from fipo.telemetry.run_lock import run_lock
from fipo.telemetry.trackers import Trackers
from fipo.training.control import Control
from fipo.training.interruption import StepDropped, StopRequests, beat_of, what_is_safe, what_to_type
from fipo.training.recipe import Recipe, with_found_model
from fipo.training.record import StepRecord, failed_grades, last_evaluation
from fipo.training.saving.anomaly import write_anomalies
from fipo.training.saving.checkpoint import Position, prune, restore_newest, save, set_damaged_aside
from fipo.training.saving.history import FoundHistory, WrittenHistory
from fipo.training.saving.resume import (
    check_same_data,
    check_same_fingerprint,
    check_same_recipe,
    dated,
    resolved_config,
)
from fipo.training.setup import Setup, set_up
from fipo.training.step import ShortBatch, train_step

SMALLER = (
    "smaller rollout.decode_batch and update.tokens_per_micro_batch need less memory, "
    "and so does update.gradient_checkpointing = true"
)


def train(recipe: Recipe, *, resume: bool = False, quiet: bool = False, control: Control | None = None) -> RunDirectory:
    """Run the recipe to its end; with `resume`, on from its last checkpoint that is whole; `quiet` shows nothing.

    `control`: weights in place of FIPO's, for a study.

    Raises UserError for what the user can mend, RunStopped for a run that ended early with its state saved.

    >>> import tempfile
    >>> from fipo.recipe.packaged import FOLDER
    >>> from fipo.training import load_recipe
    >>> short = {"run.steps": "1", "run.folder": tempfile.mkdtemp(), "data.eval.count": "8", "eval.samples": "1"}
    >>> run = train(load_recipe(FOLDER / "quickstart.toml", short), quiet=True)
    >>> [line["step"] for line in run.read_metrics()]
    [0, 1]
    """
    recipe = with_found_model(recipe)
    run = RunDirectory(Path(recipe.run.folder) / recipe.run.name)
    graders = recipe.graders(prove=True)
    progress = TrainingProgress(steps=recipe.run.steps, evaluate_every=recipe.eval.every, quiet=quiet)
    trackers = Trackers(recipe.telemetry.trackers, run, progress.say)
    with progress, run_lock(run.path), trackers:
        try:
            with graders, Heartbeat(recipe.telemetry.stall_seconds, run.stall, graders.worker_stacks) as heartbeat:
                stop = StopRequests(progress.say)
                _Loop(recipe, control, run, progress, trackers, graders, heartbeat, stop).run_all(resume=resume)
        except DiskError as error:
            raise RunStopped(f"{error}; {what_is_safe(run)}") from error
        except (RuntimeError, MemoryError) as error:
            reason = out_of_memory(error)
            if reason is None:
                raise
            raise RunStopped(f"{reason}; {SMALLER}; {what_is_safe(run)}") from error
    return run


class _Loop:
    def __init__(
        self,
        recipe: Recipe,
        control: Control | None,
        run: RunDirectory,
        progress: TrainingProgress,
        trackers: Trackers,
        graders: Panel,
        heartbeat: Heartbeat,
        stop: StopRequests,
    ) -> None:
        self.recipe = recipe
        self.control = control
        self.run = run
        self.progress = progress
        self.trackers = trackers
        self.graders = graders
        self.heartbeat = heartbeat
        self.stop = stop
        self.beat = beat_of(heartbeat, progress, stop)
        self.history = WrittenHistory(run)
        self.failed_grades = 0  # in the whole run, evaluations included
        self.known: list[dict[str, float]] = []  # metrics that were there when it was resumed
        self.saved_step = 0  # the last one whose state is on disk; before the first step that is the recipe itself

    def run_all(self, *, resume: bool) -> None:
        position = self.begin(resume=resume)
        self.trackers.start()
        with self.stop:
            try:
                self.progress.start(position.step, last_evaluation(self.known))
                if not self.known:
                    self.run.forget_failures()
                    self.stop.droppable = True
                    metrics = self.evaluate(0, Clock(self.enter))
                    self.history.append({"step": 0, **metrics})
                    self.failed_grades = failed_grades(metrics)
                self.check_failed_grades(position)
                while position.step < self.recipe.run.steps:
                    position = self.step(position)
                    if self.stop.signal is not None and position.step < self.recipe.run.steps:
                        self.interrupted(position)
            except StepDropped:
                self.interrupted(position)
            except BrokenGrader as error:
                self.run.append_failures(position.step, str(error), all_failed=True)
                raise UserError(f"{error}; mend it, then go on with --resume") from None

    def begin(self, *, resume: bool) -> Position:
        """Load what the recipe names; put weights, optimizer and problem stream where the run stands."""
        run = self.run
        self.enter("loading")
        continued = resume and run.config.exists()
        self.recipe = recipe = dated(self.recipe, run, continued=continued)
        if continued:
            check_same_recipe(recipe, run, self.control)
        else:
            run.refuse_if_begun()
        self.graders.start()
        self.setup: Setup = set_up(recipe, self.graders, self.progress.say, self.beat, self.control)
        config = resolved_config(recipe, self.setup)
        if not continued:
            run.create(config)
            return Position()
        check_same_data(run, config, self.progress.say)
        check_same_fingerprint(run, config, self.progress.say)
        trainer = self.setup.trainer
        position = self.go_back()
        trainer.stream.taken = position.problems_taken
        if trainer.loss_scale is not None and position.loss_scale is not None:
            trainer.loss_scale.value, trainer.loss_scale.clean = position.loss_scale, position.clean_updates
        run.write_config(config)
        finished = position.step >= recipe.run.steps
        self.progress.say(f"{run.path}: {'finished' if finished else 'continuing'} after step {position.step}")
        return position

    def go_back(self) -> Position:
        """To the newest checkpoint that is whole, as is what was written until then; what came later is forgotten."""
        run, trainer, say, found = self.run, self.setup.trainer, self.progress.say, FoundHistory(self.run, self.beat)
        if not run.all_checkpoints():
            found.refuse_lost_checkpoints()
        position = restore_newest(run, trainer.model, trainer.optimizer, say, found.misfit)
        self.saved_step = position.step
        set_damaged_aside(run, position.step, say)
        checkpoint = run.newest_checkpoint()
        if checkpoint and (missing := found.missing(checkpoint)):
            say(f"note: {len(missing)} files of earlier steps are gone, such as {run.path / missing[0]}")
        self.history, self.known = found.rewound(position.step, checkpoint)
        self.failed_grades = sum(map(failed_grades, self.known))
        prune(run, self.recipe.checkpoint.keep, self.history.best)
        return position

    def step(self, position: Position) -> Position:
        """One training step, with the evaluation and the checkpoint that are due after it."""
        recipe, run, step, clock = self.recipe, self.run, position.step + 1, Clock(self.enter)
        last = step == recipe.run.steps
        self.stop.droppable = True
        try:
            record = train_step(self.setup.trainer, step, clock)
        except ShortBatch as error:
            self.checkpoint(position)
            raise RunStopped(f"{error}; the state after step {position.step} is saved") from None
        metrics = record.metrics(recipe, clock)
        scale = self.setup.trainer.loss_scale
        position = Position(
            step=step,
            problems_taken=self.setup.trainer.stream.taken,
            skipped_updates=position.skipped_updates + record.skipped_updates,
            loss_scale=scale.value if scale else None,
            clean_updates=scale.clean if scale else 0,
        )
        self.progress.step(step, metrics)
        self.say_failures(step, record.batch.generated)
        evaluated = last or step % recipe.eval.every == 0
        if evaluated:
            metrics |= self.evaluate(step, clock)
        self.enter("saving")
        files = [*write_anomalies(run, record), *self.write_rollouts(record)]
        self.history.append({"step": step, **metrics}, files)
        self.trackers.check()
        self.failed_grades += failed_grades(metrics)
        self.check_skipped(position)
        if last or step % recipe.checkpoint.every == 0 or self.history.best == step:
            self.checkpoint(position)
        self.check_failed_grades(position)
        return position

    def evaluate(self, step: int, clock: Clock) -> dict[str, float]:
        """The same problems with the same random numbers each time, so that two evaluations can be compared."""
        settings = self.recipe.eval
        with clock.phase("eval"):
            evaluation = evaluate(
                self.setup.trainer.roller,
                self.setup.eval_problems,
                samples=settings.samples,
                params=settings.params(self.recipe.rollout.max_response_tokens),
                seed=derive_seed(self.recipe.run.seed, "eval"),
                clock=Clock(),
                same=lambda pairs: self.graders.same(pairs, self.beat),
            )
        self.progress.evaluated(clock.seconds["eval"])
        self.say_failures(step, [*evaluation.sampled, *evaluation.greedy])
        metrics = evaluation.metrics()
        self.progress.say(
            f"after step {step}: greedy {metrics['eval/greedy']:.3f}  "
            f"avg@{settings.samples} {metrics['eval/avg_at_k']:.3f}  "
            f"pass@{settings.samples} {metrics['eval/pass_at_k']:.3f}  "
            + (f"reward {metrics['eval/reward']:+.3f}  " if "eval/reward" in metrics else "")
            + f"on {len(self.setup.eval_problems)} held-out problems"
        )
        for name, part in evaluation.parts(self.setup.eval_sets).items():
            own = part.metrics(f"eval/{name}")
            self.progress.say(
                f"  {name}: greedy {own[f'eval/{name}/greedy']:.3f}  avg@{settings.samples} "
                f"{own[f'eval/{name}/avg_at_k']:.3f}  on {len(part.greedy)} problems"
            )
            metrics |= own
        return metrics | {"time/eval": clock.seconds["eval"]}

    def checkpoint(self, position: Position) -> None:
        """Save the state after `position.step`, unless it is on disk already."""
        if position.step == self.saved_step:
            return
        self.enter("saving")
        trainer = self.setup.trainer
        keep = self.recipe.checkpoint.keep
        save(self.run, position, trainer.model, trainer.tokenizer, trainer.optimizer, self.history, keep=keep)
        self.saved_step = position.step

    def write_rollouts(self, record: StepRecord) -> list[Path]:
        """The file; none where it cannot be written and that is no reason to stop."""
        tokenizer = self.setup.trainer.tokenizer
        try:
            rollouts = record.rollouts(tokenizer, self.recipe.telemetry.rollout_groups)
            return [self.run.write_rollouts(record.step, rollouts)]
        except DiskError as error:
            if self.recipe.telemetry.on_lost_rollouts == "stop":
                raise
            self.progress.say(f"{error}; carrying on without it")
            return []

    def check_skipped(self, position: Position) -> None:
        if position.skipped_updates > self.recipe.update.max_skipped:
            raise RunStopped(
                f"step {position.step}: {position.skipped_updates} updates had a loss or gradient that was not finite, "
                f"more than update.max_skipped = {self.recipe.update.max_skipped}; their batches are in "
                f"{self.run.anomalies}; the last checkpoint is untouched"
            )

    def check_failed_grades(self, position: Position) -> None:
        if line := too_many_failures(self.failed_grades, self.recipe.grading.max_failures):
            self.checkpoint(position)
            raise RunStopped(f"step {position.step}: {line}; the state after this step is saved")

    def say_failures(self, step: int, groups: Sequence[Group]) -> None:
        if failures := failures_of(groups):
            self.progress.say(f"step {step}: {failures}")
            self.run.append_failures(step, failures)

    def interrupted(self, position: Position) -> NoReturn:
        self.checkpoint(position)
        said = f"interrupted after step {position.step}; {what_to_type(self.run)}"
        raise RunStopped(said, exit_code=self.stop.exit_code)

    def enter(self, phase: str) -> None:
        """A new phase begins; with the update a step is no longer one that could be dropped."""
        self.heartbeat.enter(phase)
        self.progress.phase(phase)
        if phase == "update":
            self.stop.droppable = False
