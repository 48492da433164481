"""The DAPO run behind a checkpoint: the trainer's own steps, its learning rate steered to a drift."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fipo.beat import no_beat
from fipo.grading.workers.pool import GraderPool
from fipo.objective import future_kl, group_advantages
from fipo.recipe.table import validate
from fipo.recipe.toml import layered, read_recipe
from fipo.rollout.groups import Group, collect_groups
from fipo.seeding import derive_seed
from fipo.study.credit.design import USUAL_SPREAD, Cell, Design
from fipo.telemetry.clock import Clock
from fipo.training.passes.packing import Pack, pack
from fipo.training.recipe import Recipe
from fipo.training.record import StepRecord
from fipo.training.setup import set_up
from fipo.training.step import train_step
from fipo.training.trainer import Trainer

HALF_LIFE = 32.0
LATE = 4  # the last quarter of a step's updates says how far the policy drifts
MORE = 1.4  # problems sampled for each group that is wanted, as not all are mixed
BATCHES = 100  # of these at most
WHOLE = 10**9  # tokens: everything in one pack
FEW = 4096  # tokens whose activations stay in a processor's cache: a fifth faster than 28,000 at once


def recipe_of(design: Design, cell: Cell, seed: int) -> Recipe:
    """The design's base with what the cell changes."""
    size = design.credit.group_size
    groups = cell.mini_batches * cell.responses // size
    first_rate = design.credit.learning_rate * cell.trained_spread / USUAL_SPREAD
    changed: dict[str, Any] = {
        "run": {"name": "credit", "seed": seed},
        "model": {"path": cell.model},
        "objective": {"preset": "dapo"},
        "rollout": {
            "groups": groups,
            "group_size": size,
            "generation_batch": round(MORE * groups),
            "max_generation_batches": BATCHES,
        },
        "update": {"mini_batches": cell.mini_batches, "learning_rate": first_rate, "tokens_per_micro_batch": FEW},
    }
    if cell.filler is not None:
        problems = {"filler": cell.filler}
        changed["data"] = {"train": problems, "eval": problems}
        changed["rollout"]["max_response_tokens"] = 4 * (cell.filler + 1) + 8
    path = Path("recipe/study") / (cell.recipe or design.credit.recipe)
    return validate(Recipe, layered(read_recipe(path, {}), changed), str(path))


def begin(recipe: Recipe, graders: GraderPool) -> Trainer:
    return set_up(recipe, graders, lambda _: None, no_beat).trainer


def steered(trainer: Trainer, record: StepRecord, spread: float) -> Trainer:
    """With the learning rate of the next step: for the wanted spread, at most twice and at least half of this one's."""
    update = trainer.recipe.update
    factor = min(2.0, max(0.5, spread / max(spread_of(record), 1e-9)))
    changed = update.model_copy(update={"learning_rate": factor * update.learning_rate})
    return replace(trainer, recipe=trainer.recipe.model_copy(update={"update": changed}))


def spread_of(record: StepRecord) -> float:
    """The standard deviation of the FutureKL in the last quarter of a step's updates."""
    late = record.outcomes[-max(1, len(record.outcomes) // LATE) :]
    parts = [(one.output.log_ratio, one.output.loss_mask) for outcome in late for one in outcome.packs]
    return float(torch.cat([future_kl(x, HALF_LIFE)[mask] for x, mask in parts]).std())


def mixed(trainer: Trainer, count: int, step: int) -> list[Group]:
    """`count` groups in which success varies, of the policy as it is; the problems are the next of its stream."""
    table = trainer.recipe.rollout.model_copy(update={"groups": count, "generation_batch": round(MORE * count)})
    seed = derive_seed(trainer.recipe.run.seed, "measured", step)
    return collect_groups(trainer.stream, trainer.roller, table, drop_failed=False, seed=seed, clock=Clock()).kept


def step_of(trainer: Trainer, step: int) -> StepRecord:
    return train_step(trainer, step, Clock())


def advantages_of(groups: Sequence[Group]) -> Tensor:
    """DAPO's, [P, G], of rewards +1 and -1."""
    rewards = torch.tensor([[1.0 if grade.correct else -1.0 for grade in group.grades] for group in groups])
    return group_advantages(rewards)


def packed(trainer: Trainer, groups: Sequence[Group], tokens: int) -> list[Pack]:
    """The groups as one mini-batch, in packs of at most `tokens`."""
    [packs] = pack(
        groups,
        advantages_of(groups),
        mini_batches=1,
        tokens_per_micro_batch=tokens,
        mask_truncated=False,
        layout=trainer.layout,
        device=trainer.model.device,
    )
    return packs
