"""The `[checkpoint]` table of a recipe."""

from fipo.recipe.table import AtOnce, InAll, Table


class CheckpointTable(Table):
    every: InAll
    """Training steps between checkpoints; there is one more after every evaluation that is the best so far."""
    keep: AtOnce = 2
    """The newest ones that are kept, besides the best by `eval/avg_at_k`."""
