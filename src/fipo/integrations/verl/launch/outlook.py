"""What a job for the cluster will meet, as far as its recipe and this machine can tell."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fipo.doctor.findings import Finding
from fipo.integrations.verl.knobs import ACTOR
from fipo.integrations.verl.launch.estimate import GIB, SHORT, checkpoint_bytes, estimate, hours
from fipo.integrations.verl.launch.keys import VERL_VERSION
from fipo.integrations.verl.launch.objective import knobs_of
from fipo.integrations.verl.launch.recipe import Destination, LaunchRecipe
from fipo.integrations.verl.launch.submit import environment_file

KEPT = "trainer.max_actor_ckpt_to_keep"
ENTRY_POINT = "fipo.integrations.verl.main"
ARITHMETIC = f"{ACTOR}.fsdp_config.mixed_precision.param_dtype"
SAMPLED = "actor_rollout_ref.rollout.dtype"
NOT_READ = f"{ACTOR}.fsdp_config.dtype"
PRECISIONS = {
    **dict.fromkeys(("bf16", "bfloat16", "auto"), "bfloat16"),  # auto: as published models are
    **dict.fromkeys(("16", "fp16", "float16", "half"), "float16"),
}
PACKS = (
    ("ppo_max_token_len_per_gpu", "log_prob_max_token_len_per_gpu"),
    ("use_dynamic_bsz", "log_prob_use_dynamic_bsz"),
)


def outlook(recipe: LaunchRecipe, place: Destination, environment: Mapping[str, str]) -> list[Finding]:
    """Everything, in no order of weight. environment: of this process, which is not the job's.

    Raises UserError for a runtime environment that cannot be read.
    """
    return [
        *_memory(recipe),
        *_objective(recipe),
        *_old_logprobs(recipe),
        *_precision(recipe),
        *_entry_point(recipe),
        *_tracker(recipe, place, environment),
        *_checkpoints(recipe),
        *_hours(recipe),
        *_files(recipe),
    ]


def steps_of(recipe: LaunchRecipe) -> int | None:
    """Training steps of the job; None where the recipe leaves it to the rows of a file that is not here."""
    total = recipe.value("trainer.total_training_steps")
    if isinstance(total, int):
        return total
    rows = rows_of(Path(recipe.job.train_file))
    if rows is None:
        return None
    epochs = recipe.value("trainer.total_epochs")
    return rows // recipe.whole_number("data.train_batch_size") * (epochs if isinstance(epochs, int) else 1)


def rows_of(path: Path) -> int | None:
    """The rows of a parquet file; None for one that is not here or none."""
    if not os.path.isfile(path):
        return None
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return int(pq.read_metadata(path).num_rows)
    except (OSError, pa.ArrowException):
        return None


def _memory(recipe: LaunchRecipe) -> list[Finding]:
    peak, there = estimate(recipe).peak / GIB, recipe.job.gpu_memory_gib
    if peak <= there:
        return []
    return [
        Finding(
            level="problem",
            keys=("job.gpu_memory_gib",),
            text=f"a GPU needs {peak:.1f} GiB at its peak and has {there:g}",
            advice="more GPUs, a larger tensor_model_parallel_size, a smaller ppo_max_token_len_per_gpu "
            "with more ulysses_sequence_parallel_size",
        )
    ]


def _objective(recipe: LaunchRecipe) -> list[Finding]:
    chosen = knobs_of(recipe).algorithm()
    found = [Finding(level="note", keys=(f"verl.{ACTOR}.policy_loss",), text=note) for note in chosen.notes()]
    if recipe.updates == 1 and chosen.config.influence_bounds != (1.0, 1.0):
        found.append(
            Finding(
                level="warning",
                keys=(f"verl.{ACTOR}.ppo_mini_batch_size", "verl.data.train_batch_size"),
                text="with one update per batch every ratio is 1, so every weight f is 1 and FIPO is DAPO",
                advice="a smaller ppo_mini_batch_size, or preset dapo",
            )
        )
    return found


def _old_logprobs(recipe: LaunchRecipe) -> list[Finding]:
    found = []
    for update, before in PACKS:
        keys = (f"{ACTOR}.{update}", f"actor_rollout_ref.rollout.{before}")
        there = [recipe.value(key) for key in keys]
        if there[0] != there[1]:
            found.append(
                Finding(
                    level="warning",
                    keys=tuple(f"verl.{key}" for key in keys),
                    text=f"{there[0]} and {there[1]}: old log-probs of other packs than the update's round otherwise, "
                    "and FIPO adds that up",
                    advice="the same value for both",
                )
            )
    return found


def _precision(recipe: LaunchRecipe) -> list[Finding]:
    computed = PRECISIONS.get(str(recipe.value(ARITHMETIC) or "bf16"), "float32")
    sampled = PRECISIONS.get(str(recipe.value(SAMPLED) or "bfloat16"), "float32")
    found = []
    if recipe.value(NOT_READ) is not None:
        text = f"no FSDP engine of verl {VERL_VERSION} reads it"
        found.append(Finding(level="warning", keys=(f"verl.{NOT_READ}",), text=text, advice=f"--verl.{ARITHMETIC}"))
    weighs = knobs_of(recipe).algorithm().config.influence_bounds != (1.0, 1.0)
    if computed == "bfloat16" and weighs:
        found.append(
            Finding(
                level="warning",
                keys=(f"verl.{ARITHMETIC}",),
                text="the policy is computed in bfloat16, as published: most of the FutureKL is rounding then",
                advice=f"float16, as recipe/fipo/fipo_qwen2.5_32b_fp16.toml has it: --verl.{ARITHMETIC} fp16 "
                f"--verl.{SAMPLED} float16",
            )
        )
    if computed != sampled:
        found.append(
            Finding(
                level="warning",
                keys=(f"verl.{ARITHMETIC}", f"verl.{SAMPLED}"),
                text=f"the trainer computes in {computed} and the sampler in {sampled}",
                advice="the same for both",
            )
        )
    return found


def _entry_point(recipe: LaunchRecipe) -> list[Finding]:
    if recipe.job.entry_point == ENTRY_POINT:
        return []
    return [
        Finding(
            level="warning",
            keys=("job.entry_point",),
            text=f"under {recipe.job.entry_point} nothing checks the job before Ray starts, nothing ends dynamic "
            "sampling where no group has contrast, and a resumed job's metrics replace the ones before",
            advice=f"--job.entry_point {ENTRY_POINT}",
        )
    ]


def _tracker(recipe: LaunchRecipe, place: Destination, environment: Mapping[str, str]) -> list[Finding]:
    loggers = recipe.value("trainer.logger")
    if not isinstance(loggers, list) or "wandb" not in loggers:
        return []
    given: Any = environment_file(place).get("env_vars") or {}
    if not isinstance(given, dict) or given.keys() & {"WANDB_API_KEY", "WANDB_MODE"}:
        return []
    here = "; it is set here, which does not reach the job" if environment.get("WANDB_API_KEY") else ""
    return [
        Finding(
            level="warning",
            keys=("verl.trainer.logger",),
            text=f"wandb has no WANDB_API_KEY in the job's runtime environment{here}: unless its image has one, the "
            "job ends when verl first logs",
            advice="WANDB_API_KEY, or WANDB_MODE: offline, under env_vars of the file of RUNTIME_ENV; or "
            '--verl.trainer.logger \'["console", "file"]\'',
        )
    ]


def _checkpoints(recipe: LaunchRecipe) -> list[Finding]:
    every, size, steps = recipe.value("trainer.save_freq"), checkpoint_bytes(recipe) / 1e9, steps_of(recipe)
    if not isinstance(every, int) or every < 1:
        return [Finding(level="warning", keys=("verl.trainer.save_freq",), text="the job saves nothing")]
    keep = recipe.value(KEPT)
    said = f"each checkpoint takes {size:,.0f} GB, one every {every} steps"
    if isinstance(keep, int):
        return [Finding(level="note", keys=(f"verl.{KEPT}",), text=f"{said}, {keep} kept: {keep * size:,.0f} GB")]
    total = f": {steps // every * size / 1000:,.0f} TB after {steps:,} steps" if steps else ""
    return [
        Finding(
            level="warning",
            keys=("verl.trainer.save_freq", f"verl.{KEPT}"),
            text=f"{said}, all of them kept{total}",
            advice=f"--verl.{KEPT} 3",
        )
    ]


def _hours(recipe: LaunchRecipe) -> list[Finding]:
    steps = steps_of(recipe)
    if steps is None:
        text = "how many steps the job has is not known here: its training file's rows / train_batch_size"
        return [Finding(level="note", keys=("verl.trainer.total_training_steps",), text=text)]
    short, full = (sum(hours(recipe, share)) * steps for share in (SHORT, 1.0))
    text = f"{steps:,} steps are {short:,.0f} to {full:,.0f} hours, with responses of a quarter to all of the length"
    return [Finding(level="note", keys=("verl.trainer.total_training_steps",), text=text)]


def _files(recipe: LaunchRecipe) -> list[Finding]:
    job = recipe.job
    places = {name: getattr(job, name) for name in ("model", "train_file", "test_file")}
    missing = [name for name, place in places.items() if "://" not in place and not os.path.exists(place)]
    if not missing:
        return []
    keys = tuple(f"job.{name}" for name in missing)
    return [Finding(level="note", keys=keys, text="not on this machine, so not looked into; the job's node looks")]
