"""A study: a base recipe, what each arm changes in it, and the seeds."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from fipo.errors import UserError
from fipo.recipe.table import PathText, Table, validate
from fipo.recipe.toml import layered, read_recipe
from fipo.study.controls import CONTROLS
from fipo.telemetry.run_directory import RunDirectory
from fipo.training.control import Control
from fipo.training.recipe import Recipe
from fipo.training.saving.resume import FREE_TO_CHANGE, flat

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=60)]
Seeds = Annotated[int, Field(gt=0, le=10**4)]
WITHOUT_EFFECT = (FREE_TO_CHANGE - {"run.steps"}) | {"telemetry.rollout_groups"}  # on the metrics
RUN_SETTINGS = {"name", "folder", "seed"}  # what a study sets itself, for each run


class StudyTable(Table):
    name: Name
    """What comes out is in `folder/name`."""
    folder: PathText = "studies"
    """The folder of all studies."""
    recipe: PathText
    """The recipe that all arms share, as seen from the study's file."""
    seeds: Seeds
    """Run with this many seeds. A seed decides problems, their order, evaluation and sampling alike in every arm."""
    first_seed: Annotated[int, Field(ge=0, le=2**62)] = 0
    """The seeds are this one and those that follow: what one study found, another can repeat on fresh ones."""
    processes: Annotated[int, Field(gt=0, le=1024)] = Field(default_factory=lambda: os.cpu_count() or 1)
    """Runs at a time, each on one thread."""
    contrasts: list[Annotated[tuple[Name, Name], Field(strict=False)]] = Field(default_factory=list)
    """Pairs (A, B): A - B, paired by seed. The first is the primary one, tested by itself; the others share Holm's
    correction. None in a study that only looks around."""


class Arm(Table):
    title: str | None = None
    """For tables and figures; the arm's name if there is none."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """What this arm changes in the shared recipe."""
    control: (
        Literal[
            "shuffled",
            "averaged",
            "past",
            "unguarded",
            "relay_truth",
            "relay_truth_bounded",
            "branched_truth",
            "branched_truth_bounded",
            "critic",
        ]
        | None
    ) = None
    """Weights or advantages in place of FIPO's: see `fipo.study.controls` and `fipo.study.token_advantages`."""
    learning_rate_times_mean_f_of: Name | None = None
    """Multiply the learning rate by the mean influence weight of this arm's run with the same seed."""
    seeds: Seeds | None = None
    """Fewer than the study's."""


class Study(Table):
    study: StudyTable
    arms: dict[Name, Arm]

    @model_validator(mode="after")
    def _names(self) -> Self:
        for name in [name for pair in self.study.contrasts for name in pair]:
            if name not in self.arms:
                raise ValueError(f"study.contrasts must name arms ({', '.join(self.arms)}), got {name!r}")
        for name, arm in self.arms.items():
            if not (arm.seeds or 0) <= self.study.seeds:
                raise ValueError(f"arms.{name}.seeds must be <= study.seeds = {self.study.seeds}, got {arm.seeds}")
            other = arm.learning_rate_times_mean_f_of
            if other is not None and (other not in self.arms or self.arms[other].learning_rate_times_mean_f_of):
                raise ValueError(f"arms.{name}.learning_rate_times_mean_f_of must name another arm, got {other!r}")
            run = arm.recipe.get("run", {})
            if not isinstance(run, dict):
                raise ValueError(f"arms.{name}.recipe.run must be a table, got {run!r:.80}")
            if taken := RUN_SETTINGS & run.keys():
                raise ValueError(f"arms.{name}.recipe.run.{min(taken)} is what the study sets itself")
        return self

    @property
    def folder(self) -> Path:
        return Path(self.study.folder) / self.study.name

    @property
    def archive(self) -> Path:
        return self.folder / "metrics.jsonl.gz"

    def seeds_of(self, arm: str) -> range:
        first = self.study.first_seed
        return range(first, first + (self.arms[arm].seeds or self.study.seeds))

    @property
    def runs(self) -> int:
        return sum(len(self.seeds_of(arm)) for arm in self.arms)


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of a study."""

    arm: str
    seed: int
    recipe: Recipe
    control: Control | None
    after: str | None  # the arm whose run with this seed gives the factor of the learning rate

    @property
    def name(self) -> str:
        return _run_name(self.arm, self.seed)

    @property
    def fingerprint(self) -> str:
        """Equal for runs with the same metrics: of what the recipe says beside the defaults and WITHOUT_EFFECT."""
        said = flat(self.recipe.model_dump(mode="json", exclude_defaults=True))
        said = {key: value for key, value in said.items() if key not in WITHOUT_EFFECT}
        text = json.dumps([said, self.control.name if self.control else None, self.after], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def folder(self) -> Path:
        """The run directory."""
        return Path(self.recipe.run.folder) / self.recipe.run.name

    @property
    def has_ended(self) -> bool:
        """Whether its run directory holds all its steps."""
        lines = RunDirectory(self.folder).read_metrics()
        return bool(lines) and lines[-1]["step"] >= self.recipe.run.steps


def load_study(path: Path, overrides: dict[str, str]) -> tuple[Study, list[Job]]:
    """The study at `path` and its runs, seed by seed, so that an interrupted study has whole pairs.

    Raises UserError with one line for what cannot be, arms whose recipe is refused included.
    """
    study = validate(Study, read_recipe(path, overrides), str(path))
    base = read_recipe(path.parent / study.study.recipe, {})
    recipes = {arm: _recipe(study, base, arm, str(path)) for arm in study.arms}
    jobs = [
        _job(study, recipe, arm, seed)
        for seed in sorted({seed for arm in study.arms for seed in study.seeds_of(arm)})
        for arm, recipe in recipes.items()
        if seed in study.seeds_of(arm)
    ]
    return study, jobs


def _recipe(study: Study, base: dict[str, Any], name: str, where: str) -> Recipe:
    """That of an arm, with its first seed."""
    run = {"folder": str(study.folder / "runs"), "name": _run_name(name, 0), "seed": study.study.first_seed}
    values = layered(layered(base, study.arms[name].recipe), {"run": run})
    recipe = validate(Recipe, values, f"{where}: arm {name}")
    if recipe.rollout.max_generation_batches != 1:
        raise UserError(
            f"{where}: arm {name}: rollout.max_generation_batches must be 1, so that all arms see the same problems, "
            f"got {recipe.rollout.max_generation_batches}"
        )
    return recipe


def _job(study: Study, recipe: Recipe, arm: str, seed: int) -> Job:
    run = recipe.run.model_copy(update={"name": _run_name(arm, seed), "seed": seed})
    return Job(
        arm=arm,
        seed=seed,
        recipe=recipe.model_copy(update={"run": run}),
        control=CONTROLS.get(study.arms[arm].control or ""),
        after=study.arms[arm].learning_rate_times_mean_f_of,
    )


def _run_name(arm: str, seed: int) -> str:
    return f"{arm}_seed_{seed}"
