"""What surrounds a run: the problems it learns from and is measured on, the positions of its model, its disk."""

import shutil
from collections.abc import Callable
from pathlib import Path

from fipo.data.problem import Problem
from fipo.data.repeats import without
from fipo.data.sources import sources_of
from fipo.doctor.findings import Finding, Level
from fipo.doctor.recipe.machine import amount
from fipo.doctor.recipe.memory import checkpoint_bytes
from fipo.doctor.recipe.outline import Outline
from fipo.rollout.problems import problem_sets
from fipo.training.recipe import Recipe

OVERLAP = "are also in data.eval"  # said by the setup too


def position_findings(recipe: Recipe, outline: Outline) -> list[Finding]:
    """Says so of a model that knows fewer positions than a prompt with its response may have."""
    needed = recipe.rollout.max_prompt_tokens + recipe.rollout.max_response_tokens
    if outline.positions is None or needed <= outline.positions:
        return []
    return [
        Finding(
            level="problem",
            keys=("rollout.max_prompt_tokens", "rollout.max_response_tokens"),
            text=f"{needed} tokens together, and the model knows {outline.positions} positions",
            advice=f"rollout.max_response_tokens = {max(1, outline.positions - recipe.rollout.max_prompt_tokens)}",
        )
    ]


def problems_of(recipe: Recipe, say: Callable[[str], None]) -> tuple[list[Problem], list[Problem]]:
    """(training, evaluation) problems, prompts of any length. What is left out is said.

    Raises UserError for what `fipo train` would refuse before it looks at their tokens.
    """
    data, seed = recipe.data, recipe.run.seed
    with recipe.graders() as graders:
        held_out = problem_sets(
            sources_of(data.eval, "data.eval"), "eval", data, graders=graders, seed=seed, limit=None, say=say
        )
        train = problem_sets(
            sources_of(data.train, "data.train"), "train", data, graders=graders, seed=seed, limit=None, say=say
        )
    return [p for problems in train.values() for p in problems], [p for problems in held_out.values() for p in problems]


def overlap_findings(train: list[Problem], held_out: list[Problem]) -> list[Finding]:
    """Says so of evaluation problems that are in the training set as well."""
    shared = len(train) - len(without(train, held_out))
    if not shared:
        return []
    level: Level = "problem" if shared == len(train) else "warning"
    return [
        Finding(
            level=level,
            keys=("data.train", "data.eval"),
            text=f"{shared} of {len(train)} training problems {OVERLAP}: they are left out of training"
            + (", and none remains" if level == "problem" else ""),
            advice="another split for data.eval, if that is not meant",
        )
    ]


def disk_findings(recipe: Recipe, outline: Outline) -> list[Finding]:
    """Says so of a disk without room for the checkpoints of a run: those kept, the best, one that is being written."""
    size = checkpoint_bytes(recipe, outline)
    most = recipe.checkpoint.keep + 2
    folder = Path(recipe.run.folder).absolute()
    existing = next(parent for parent in (folder, *folder.parents) if parent.is_dir())
    free = shutil.disk_usage(existing).free
    if most * size <= free:
        return []
    return [
        Finding(
            level="warning",
            keys=("run.folder", "checkpoint.keep"),
            text=f"up to {most} checkpoints of {amount(size)}, and {existing} has {amount(free)} left",
            advice="checkpoint.keep = 1, or run.folder on a larger disk",
        )
    ]
