"""Our own trainer: one process, one machine."""

from fipo.training.config import Recipe, load_recipe
from fipo.training.loop import train

__all__ = ["Recipe", "load_recipe", "train"]
