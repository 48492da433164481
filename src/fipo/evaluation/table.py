"""The `[eval]` table of a recipe for training."""

from pydantic import PositiveInt

from fipo.rollout.table import SamplingTable


class EvalTable(SamplingTable):
    every: PositiveInt
    """Training steps between evaluations; there is one before the first and one after the last anyway."""
    samples: PositiveInt
    """Responses per problem for avg@k and pass@k; greedy accuracy is measured beside them."""
