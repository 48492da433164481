"""The `[eval]` table of a recipe for training."""

from fipo.recipe.table import AtOnce, InAll
from fipo.rollout.table import SamplingTable


class EvalTable(SamplingTable):
    every: InAll
    """Training steps between evaluations; there is one before the first and one after the last anyway."""
    samples: AtOnce
    """Responses per problem for avg@k and pass@k; greedy accuracy is measured beside them."""
