"""A recipe for verl on a cluster, and where the job runs: the file, the environment, the command line."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from fipo.errors import UserError
from fipo.recipe.table import AtOnce, InAll, Table, validate
from fipo.recipe.toml import read_recipe

RAY_ADDRESS = "http://localhost:8265"
BESIDE_RECIPE = "runtime_env.yaml"
MOST = 10**9  # of what the estimate counts


class JobTable(Table):
    """`[job]`: what runs where. A relative path lies under RAY_DATA_HOME, as every node sees it."""

    name: str = Field(min_length=1)
    """verl's experiment name, and the last folder of the checkpoints."""
    nnodes: Annotated[int, Field(gt=0, le=10**5)]
    """Machines."""
    gpus_per_node: Annotated[int, Field(gt=0, le=1024)]
    """GPUs of each machine."""
    gpu_memory_gib: float = Field(default=80.0, gt=0, le=1e6)
    """One GPU's, for the estimate alone."""
    gpu_tflops: float = Field(default=989.0, ge=1e-3, le=1e6)
    """One GPU's in bfloat16, an H100's by its data sheet; for the estimate alone."""
    gpu_gb_per_second: float = Field(default=3350.0, ge=1e-3, le=1e6)
    """From the memory of one GPU, an H100's by its data sheet; for the estimate alone."""
    entry_point: str = "fipo.integrations.verl.main"
    """The module that `python3 -m` runs on the cluster."""
    model: str
    """The model's folder."""
    train_file: str
    """Parquet with the problems to train on, as DAPO publishes them."""
    test_file: str
    """Parquet with the problems to evaluate on."""
    checkpoints: str | None = None
    """By default ckpts/<project>/<name>."""


class ShapeTable(Table):
    """`[shape]`: the model's sizes, for the estimate alone."""

    parameters: Annotated[int, Field(gt=0, le=10**15)]
    """Weights."""
    layers: AtOnce
    """Transformer blocks."""
    hidden: AtOnce
    """Width of the residual stream."""
    kv_heads: AtOnce
    """Heads of keys and values."""
    head_size: AtOnce
    """Width of one head."""
    vocabulary: InAll
    """Tokens that there are."""


class LaunchRecipe(Table):
    """A whole file."""

    job: JobTable
    shape: ShapeTable
    verl: dict[str, Any]
    """verl's configuration, table by table; the text "null" is its null."""

    def table(self, key: str) -> dict[str, Any]:
        """verl's table of a dotted key, {} where the recipe has none."""
        table: Any = self.verl
        for part in key.split("."):
            table = table.get(part) if isinstance(table, dict) else None
        return table if isinstance(table, dict) else {}

    def value(self, key: str) -> Any:
        """verl's value of a dotted key, None where the recipe has none or "null"."""
        table, _, name = key.rpartition(".")
        value = self.table(table).get(name)
        return None if value == "null" else value

    def number(self, key: str) -> float:
        """verl's value of a dotted key. Raises UserError unless the recipe gives a number."""
        value = self.value(key)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise UserError(f"verl.{key} must be a number, got {value!r}")
        return value

    def whole_number(self, key: str) -> int:
        """The same. Raises UserError unless the recipe gives a whole number > 0."""
        value = self.number(key)
        if not isinstance(value, int) or value < 1:
            raise UserError(f"verl.{key} must be a whole number > 0, got {value!r}")
        if value > MOST:
            raise UserError(f"verl.{key} must be <= {MOST}, got {value}")
        return value

    @property
    def updates(self) -> int:
        """Optimizer steps per training step."""
        actor = "actor_rollout_ref.actor"
        epochs = self.whole_number(f"{actor}.ppo_epochs") if "ppo_epochs" in self.table(actor) else 1
        prompts = self.whole_number("data.train_batch_size")
        return epochs * -(-prompts // self.whole_number(f"{actor}.ppo_mini_batch_size"))


@dataclass(frozen=True, kw_only=True)
class Destination:
    """Where the job is submitted from and to."""

    address: str
    working_dir: str
    runtime_env: str | None  # a YAML file here


def load_launch_recipe(path: Path, overrides: dict[str, str], environment: Mapping[str, str]) -> LaunchRecipe:
    """The recipe with absolute paths. The command line wins over the environment, that over the file.

    Raises UserError with one line for a file, key or value that is wrong.
    """
    recipe = validate(LaunchRecipe, read_recipe(path, overrides), str(path))
    job = recipe.job.model_copy(update=_from_environment(overrides, environment))
    project = recipe.table("trainer").get("project_name", "fipo")
    home = Path(environment.get("RAY_DATA_HOME") or Path.home() / "verl")
    places = {
        "model": job.model,
        "train_file": job.train_file,
        "test_file": job.test_file,
        "checkpoints": job.checkpoints or f"ckpts/{project}/{job.name}",
    }
    absolute = {name: place if "://" in place else str(home / place) for name, place in places.items()}
    return recipe.model_copy(update={"job": job.model_copy(update=absolute)})


def place_of(path: Path, environment: Mapping[str, str]) -> Destination:
    """RAY_ADDRESS, WORKING_DIR and RUNTIME_ENV, or what stands for them: a local cluster, this folder, and the
    runtime_env.yaml beside the recipe.

    Raises UserError for a RUNTIME_ENV that is not there.
    """
    given = environment.get("RUNTIME_ENV")
    if given and not Path(given).is_file():
        raise UserError(f"RUNTIME_ENV must be a YAML file, got {given}")
    beside = path.parent / BESIDE_RECIPE
    return Destination(
        address=environment.get("RAY_ADDRESS") or RAY_ADDRESS,
        working_dir=environment.get("WORKING_DIR") or os.getcwd(),
        runtime_env=given or (str(beside) if beside.is_file() else None),
    )


def _from_environment(overrides: dict[str, str], environment: Mapping[str, str]) -> dict[str, Any]:
    """What the original's launcher takes from the environment, unless the command line says otherwise."""
    names = {"model": "MODEL_PATH", "train_file": "TRAIN_FILE", "test_file": "TEST_FILE", "checkpoints": "CKPTS_DIR"}
    changes: dict[str, Any] = {
        field: environment[name]
        for field, name in names.items()
        if environment.get(name) and f"job.{field}" not in overrides
    }
    nodes = environment.get("NNODES")
    if nodes and "job.nnodes" not in overrides:
        if not nodes.isdecimal() or int(nodes) == 0:
            raise UserError(f"NNODES must be a whole number > 0, got {nodes}")
        changes["nnodes"] = int(nodes)
    return changes
