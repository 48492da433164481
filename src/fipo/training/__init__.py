"""Our own trainer: one process, one machine."""

from fipo.training.loop import train
from fipo.training.recipe import Recipe, load_recipe

__all__ = ["Recipe", "load_recipe", "train"]
