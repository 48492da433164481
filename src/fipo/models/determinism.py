"""What makes a run the same again: operations with a fixed order, and the random generators that libraries share."""

import random

import numpy
import torch

from fipo.seeding import derive_seed


def deterministic_operations() -> None:
    """Let torch choose operations whose result is the same from run to run, in this process from now on."""
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Else it would fill each new tensor as well, which nothing reads.
    setattr(torch.utils.deterministic, "fill_uninitialized_memory", False)  # noqa: B010 - mypy does not know it


def seed_global_generators(seed: int, step: int) -> None:
    """Make the state of Python's, NumPy's and torch's global generators a function of the seed and the step.

    fipo draws from none of them, but a model or a grader may.
    """
    random.seed(derive_seed(seed, "python", step))
    numpy.random.seed(derive_seed(seed, "numpy", step) % 2**32)
    torch.manual_seed(derive_seed(seed, "torch", step))
