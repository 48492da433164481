"""A recipe: TOML merged with the command line's overrides, validated once, strictly."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fipo.data.sources import EvalSources, TrainSources
from fipo.errors import UserError
from fipo.evaluation.table import EvalTable
from fipo.grading.panel import Panel
from fipo.grading.table import RunGradingTable
from fipo.recipe.table import AtOnce, InAll, InAllOrNone, PathText, Seed, Table, validate
from fipo.recipe.toml import read_recipe
from fipo.rollout.table import ProblemTable, RolloutTable
from fipo.telemetry.run_directory import RunDirectory
from fipo.telemetry.table import TelemetryTable
from fipo.training.objective import ObjectiveTable
from fipo.training.policy.schedule import Schedule
from fipo.training.policy.table import PolicyTable
from fipo.training.reward import RewardTable
from fipo.training.saving.table import CheckpointTable

MOST_RESPONSES = 10**7  # in memory together


class RunTable(Table):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    """The run directory is `folder/name`."""
    folder: PathText = "runs"
    """The folder of all runs."""
    seed: Seed = 0
    """Decides problems, their order, evaluation and sampling: the same seed on the same machine gives the same run."""
    steps: InAll
    """Training steps: each samples one batch and updates the policy once per mini-batch."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where it runs; auto = CUDA where there is some."""


class DataTable(ProblemTable):
    train: TrainSources
    """One source, or several with weights: [[data.train]]."""
    eval: EvalSources
    """One source, or several by name, each with metrics of its own beside those of all: [data.eval.NAME]."""
    shuffle: bool = True
    """Training problems in a new order in each epoch; false = as the source has them: a curriculum."""

    @property
    def eval_names(self) -> list[str]:
        """The names of several sources for evaluation; [] of one."""
        return list(self.eval) if isinstance(self.eval, dict) else []


class UpdateTable(Table):
    mini_batches: AtOnce
    """Optimizer steps per training step. With 1 the ratio is 1 and FIPO is DAPO."""
    tokens_per_micro_batch: InAll = 16384
    """Tokens in one forward pass, padding included: memory against speed; it changes the result by rounding alone."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: a third more work, far less memory."""
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    """AdamW's, after the warm-up."""
    warmup_steps: InAllOrNone = 0
    """Training steps of linear warm-up."""
    schedule: Schedule = "constant"
    """What follows the warm-up: linear and cosine fall until run.steps, which --resume cannot change then."""
    schedule_floor: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Where linear and cosine end, as a share of learning_rate."""
    weight_decay: Annotated[float, Field(ge=0, le=100)] = 0.1
    """AdamW's, decoupled from the gradient."""
    max_grad_norm: Annotated[float, Field(gt=0, le=1e9)] = 1.0
    """A longer gradient of all weights together is scaled down to this length."""
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    """The others keep AdamW's state in 8 bits, paged to the host's memory when the device's runs out (bitsandbytes)."""
    max_skipped: InAllOrNone = 3
    """Updates with a loss or gradient that is not finite are skipped, their batch written to anomalies/; more than
    this many in a run end it."""


class Recipe(Table):
    """Everything that a run is given; `fipo keys` prints its tables. Made by `load_recipe`, or from plain values.

    >>> from fipo.recipe.packaged import FOLDER
    >>> from fipo.recipe.toml import read_recipe
    >>> Recipe.model_validate(read_recipe(FOLDER / "quickstart.toml", {})).rollout.group_size
    8
    """

    run: RunTable
    model: PolicyTable
    data: DataTable
    grading: RunGradingTable = RunGradingTable()
    rollout: RolloutTable
    reward: RewardTable = RewardTable()
    objective: ObjectiveTable
    update: UpdateTable
    eval: EvalTable
    checkpoint: CheckpointTable
    telemetry: TelemetryTable = TelemetryTable()

    @model_validator(mode="before")
    @classmethod
    def _judge(cls, values: Any) -> Any:
        """Without a data.grader the first of those that are paid for is the one."""
        try:
            first = values["reward"]["graders"][0]["name"]
            return {**values, "data": {"grader": first, **values["data"]}}
        except (KeyError, TypeError, IndexError):
            return values

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        rollout, update = self.rollout, self.update
        if rollout.generation_batch * rollout.max_generation_batches < rollout.groups:
            raise ValueError(
                f"rollout.generation_batch * max_generation_batches must reach rollout.groups = {rollout.groups}, "
                f"got {rollout.generation_batch} * {rollout.max_generation_batches}"
            )
        if rollout.generation_batch * rollout.group_size > MOST_RESPONSES:
            raise ValueError(
                f"rollout.generation_batch * group_size must be <= {MOST_RESPONSES}, the responses of a generation "
                f"batch, got {rollout.generation_batch} * {rollout.group_size}"
            )
        if update.mini_batches > rollout.groups:
            raise ValueError(
                f"update.mini_batches must be <= rollout.groups = {rollout.groups}, got {update.mini_batches}"
            )
        if self.reward.overlong_buffer >= rollout.max_response_tokens:
            raise ValueError(
                f"reward.overlong_buffer must be < rollout.max_response_tokens = {rollout.max_response_tokens}, "
                f"got {self.reward.overlong_buffer}"
            )
        return self

    def graders(self, *, prove: bool = False) -> Panel:
        """Those that grade a run; `prove` as for a Panel."""
        reward = self.reward
        return Panel(
            self.data.grader, reward.weights, self.grading.pool, scale=reward.scale, format=reward.format, prove=prove
        )


def with_found_model(recipe: Recipe) -> Recipe:
    """The same with the checkpoint in place of a run directory that `model.path` names: the newest there is now.

    Raises UserError for a run without one.
    """
    run = RunDirectory(Path(recipe.model.path))
    if not run.config.is_file() or not run.checkpoints.is_dir():
        return recipe
    checkpoint = run.newest_checkpoint()
    if checkpoint is None:
        raise UserError(f"model.path: {run.path}: no checkpoint has been written yet")
    return recipe.model_copy(update={"model": recipe.model.model_copy(update={"path": str(checkpoint)})})


def load_recipe(path: Path, overrides: dict[str, str]) -> Recipe:
    """The recipe at `path`, on top of the one it `extends`, with overrides such as `{"run.steps": "20"}` on top.

    Raises UserError with one line that names the file, the key, the rule and the value.

    >>> from fipo.recipe.packaged import FOLDER
    >>> load_recipe(FOLDER / "quickstart.toml", {"run.steps": "20"}).run.steps
    20
    """
    return validate(Recipe, read_recipe(path, overrides), str(path))
