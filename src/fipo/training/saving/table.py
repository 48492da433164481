"""The `[checkpoint]` table of a recipe."""

from pydantic import PositiveInt

from fipo.recipe.table import Table


class CheckpointTable(Table):
    every: PositiveInt
    """Training steps between checkpoints; there is one more after every evaluation that is the best so far."""
    keep: PositiveInt = 2
    """The newest ones that are kept, besides the best by `eval/avg_at_k`."""
