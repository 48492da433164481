"""A recipe: TOML merged with the command line's overrides, validated once, strictly."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from fipo.data.sources import Source
from fipo.grading.registry import GraderName
from fipo.grading.table import GradingTable
from fipo.recipe.table import Table, validate
from fipo.recipe.toml import read_recipe
from fipo.rollout.prompts import Prompting
from fipo.telemetry.trackers import TrackerName
from fipo.training.objective import ObjectiveTable

Fraction = Annotated[float, Field(gt=0, le=1)]


class Run(Table):
    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
    """The run directory is `folder/name`."""
    folder: Annotated[str, Field(pattern=r"^[^\x00]+$")] = "runs"
    seed: NonNegativeInt = 0
    steps: PositiveInt
    """Training steps: each samples one batch and updates the policy once per mini-batch."""
    device: Literal["auto", "cpu", "cuda"] = "auto"


class Lora(Table):
    """Train low-rank adapters on frozen weights (peft) instead of the whole model."""

    rank: PositiveInt = 32
    alpha: PositiveFloat = 64.0
    """An adapter's product is scaled by alpha / rank."""
    targets: Literal["all-linear"] | Annotated[tuple[str, ...], Field(strict=False)] = "all-linear"
    """Names of the layers that get an adapter, such as q_proj; "all-linear" = every linear layer but the head."""


class Model(Table):
    path: str
    """"embedded", a local folder in transformers' format, or the name of a hub model."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the policy; auto = bfloat16 on CUDA, float32 elsewhere. Its master weights are float32."""
    lora: Lora | None = None
    """Left out = train all weights."""


class Data(Prompting):
    train: Source
    eval: Source
    grader: GraderName
    max_bad_rows: NonNegativeInt = 0
    """Malformed rows and too long prompts that are left out of each source, each of them named; one more ends the
    run before it begins."""


class Grading(GradingTable):
    on_failure: Literal["zero", "drop_group"] = "zero"
    """After a timeout or crash: a reward of 0, between right and wrong, or a group that is not trained on."""
    max_failures: NonNegativeInt | None = None
    """More timeouts and crashes than this in a run end it, with its state saved; left out = no limit."""


class Rollout(Table):
    groups: PositiveInt
    """Groups (problems) that one training step learns from."""
    group_size: Annotated[int, Field(ge=2)]
    """Responses per problem, G."""
    generation_batch: PositiveInt
    """Problems per generation batch: more than `groups`, since groups without contrast are dropped."""
    max_generation_batches: PositiveInt = 10
    on_short_batch: Literal["train", "stop"] = "train"
    """When the generation batches run out before `groups` is reached: train on what there is, or end the run."""
    max_prompt_tokens: PositiveInt
    """A longer one counts as a bad row; see `data.max_bad_rows`."""
    max_response_tokens: PositiveInt
    stop: list[str] = Field(default_factory=list)
    """A response ends with the first token that contains one of these, beside the model's own stop tokens. Each must be
    a single token, such as "\\n"."""
    temperature: PositiveFloat = 1.0
    top_p: Fraction = 1.0
    top_k: NonNegativeInt = 0
    """Sample from this many of the likeliest tokens; 0 = all. The policy's log-probs are over all of them."""
    decode_batch: PositiveInt = 256
    """Sequences decoded together: memory against speed; it changes log-probs by rounding alone."""


class Reward(Table):
    """+1 for a correct answer, -1 for any other, and what follows."""

    overlong_buffer: NonNegativeInt = 0
    """Tokens before `max_response_tokens` over which a penalty grows from 0 to -1 (DAPO); 0 = none."""
    mask_truncated: bool = False
    """Leave truncated responses out of the loss."""


class Update(Table):
    mini_batches: PositiveInt
    """Optimizer steps per training step. With 1 the ratio is 1 and FIPO is DAPO."""
    tokens_per_micro_batch: PositiveInt = 16384
    """Tokens in one forward pass, padding included: memory against speed; it changes the result by rounding alone."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: a third more work, far less memory."""
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    warmup_steps: NonNegativeInt = 0
    """Training steps of linear warm-up; constant afterwards."""
    weight_decay: NonNegativeFloat = 0.1
    max_grad_norm: PositiveFloat = 1.0
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    """The others keep AdamW's state in 8 bits, paged to the host's memory when the device's runs out (bitsandbytes)."""
    max_skipped: NonNegativeInt = 3
    """Updates with a loss or gradient that is not finite are skipped, their batch written to anomalies/; more than
    this many in a run end it."""


class Eval(Table):
    every: PositiveInt
    """Training steps between evaluations; there is one before the first and one after the last anyway."""
    samples: PositiveInt
    """Responses per problem for avg@k and pass@k; greedy accuracy is measured beside them."""
    temperature: PositiveFloat = 1.0
    top_p: Fraction = 1.0
    top_k: NonNegativeInt = 0


class Checkpoint(Table):
    every: PositiveInt
    """Training steps between checkpoints; there is one more after every evaluation that is the best so far."""
    keep: PositiveInt = 2
    """The newest ones that are kept, besides the best by `eval/avg_at_k`."""


class Telemetry(Table):
    rollout_groups: NonNegativeInt = 4
    """Groups per step written to rollouts/ with per-token credit."""
    on_lost_rollouts: Literal["stop", "continue"] = "stop"
    """When rollouts/ cannot be written, on a full disk for example: end the run, or carry on without that file."""
    stall_seconds: Annotated[float, Field(gt=0, le=1e6)] = 1800.0
    """Longest time without a sign of life (a decoded token, a graded answer, a micro-batch) before the run writes
    the stacks of all threads and graders to stall.txt and ends."""
    trackers: Annotated[tuple[TrackerName, ...], Field(strict=False)] = ()
    """Programs that show metrics.jsonl: tensorboard, wandb, swanlab, trackio; each needs the extra of its name. They
    write into trackers/ of the run directory, and leave the machine only if asked to: docs/trackers.md."""


class Recipe(Table):
    run: Run
    model: Model
    data: Data
    grading: Grading = Grading()
    rollout: Rollout
    reward: Reward = Reward()
    objective: ObjectiveTable
    update: Update
    eval: Eval
    checkpoint: Checkpoint
    telemetry: Telemetry = Telemetry()

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        rollout, update = self.rollout, self.update
        if rollout.generation_batch * rollout.max_generation_batches < rollout.groups:
            raise ValueError(
                f"rollout.generation_batch * max_generation_batches must reach rollout.groups = {rollout.groups}, "
                f"got {rollout.generation_batch} * {rollout.max_generation_batches}"
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


def load_recipe(path: Path, overrides: dict[str, str]) -> Recipe:
    """The recipe at `path`, on top of the one it `extends`, with overrides such as `{"run.steps": "20"}` on top.

    Raises UserError with one line that names the file, the key, the rule and the value.
    """
    return validate(Recipe, read_recipe(path, overrides), str(path))
