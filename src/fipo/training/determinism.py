"""The random generators that libraries share: fipo draws from none of them, but a model or a grader may."""

import random

import numpy
import torch

from fipo.seeding import derive_seed


def seed_global_generators(seed: int, step: int) -> None:
    """Make the state of Python's, NumPy's and torch's global generators a function of the seed and the step."""
    random.seed(derive_seed(seed, "python", step))
    numpy.random.seed(derive_seed(seed, "numpy", step) % 2**32)
    torch.manual_seed(derive_seed(seed, "torch", step))
