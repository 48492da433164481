"""The design: cells, what is sampled in each, and where the records go."""

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from fipo.data.made.relay import Filler
from fipo.recipe.table import Table, validate
from fipo.recipe.toml import read_recipe

Kind = Literal["once", "two epochs", "siblings"]
USUAL_SPREAD = 0.15  # of the FutureKL, in the regimes of recipe/study


class CreditTable(Table):
    name: str
    folder: str = "docs/evidence"
    """The records of a cell are in `folder/name/CELL.jsonl.gz`."""
    recipe: str
    """The base of the runs, in recipe/study, of all cells that name none."""
    checkpoints: PositiveInt
    """So many in a cell. Each is a DAPO run of its own with a seed of its own, the unit of every interval."""
    steps: list[PositiveInt]
    """Checkpoint number i is measured in training step `steps[i % len(steps)]` of its run."""
    groups: PositiveInt
    """Mixed groups that are measured at a checkpoint."""
    group_size: PositiveInt
    target_problems: PositiveInt
    """Training problems of the target gradient, with fresh responses: two to each, without exact advantages eight."""
    branches: PositiveInt
    """Continuations from either side of a token, where the exact advantage is checked or there is none."""
    checked: PositiveFloat
    """Share of the measured decisions that are checked so, and as many letters."""
    shuffles: PositiveInt
    """Shuffles of each set of weights, their cosines averaged."""
    learning_rate: PositiveFloat
    """That of the first step where trained tokens are to spread by 0.15, else in proportion; it is then steered."""


class Cell(Table):
    recipe: str | None = None
    model: str = "models/relay"
    """The base, which knows the cell's filler."""
    responses: PositiveInt
    """Per update."""
    filler: Filler | None = None
    """Letters in a block of a relay; None: another task, whose true advantages are had by continuations alone."""
    spread: PositiveFloat = USUAL_SPREAD
    """Wanted standard deviation of the FutureKL where it is measured."""
    steered_to: PositiveFloat | None = None
    """That of the trained tokens, to which the learning rate is steered, where measured ones are known to have more;
    None: `spread`."""
    mini_batches: PositiveInt = 16
    """Updates of a training step. What is measured is as the mini-batch after the last."""
    kind: Kind = "once"
    """once: the measured responses were not trained on; two epochs: once, in this step; siblings: others of their
    problems were, in this step."""
    first_seed: int = 0

    @property
    def trained_spread(self) -> float:
        return self.steered_to or self.spread

    @property
    def exact(self) -> bool:
        """Whether a rule gives the true advantages, as of relays."""
        return self.filler is not None


class Design(Table):
    credit: CreditTable
    cells: dict[str, Cell] = Field(min_length=1)
    """In the order in which they are measured; the first is the primary one."""

    @property
    def folder(self) -> Path:
        return Path(self.credit.folder) / self.credit.name

    def archive(self, cell: str) -> Path:
        return self.folder / f"{cell}.jsonl.gz"

    def fingerprint(self, cell: str) -> str:
        """Equal for records that the same design made."""
        said: list[object] = [
            self.credit.model_dump(exclude={"folder", "checkpoints"}),
            self.cells[cell].model_dump(exclude_none=True),
        ]
        if not self.cells[cell].exact:
            said.append("branches of other tokens")  # the first records had branches of whatever came next
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def load_design(path: Path, overrides: dict[str, str]) -> Design:
    """Raises UserError with one line for what cannot be."""
    return validate(Design, read_recipe(path, overrides), str(path))
