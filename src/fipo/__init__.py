"""fipo: reinforcement learning for reasoning with dense, critic-free credit."""

from importlib.metadata import version

from fipo.moved import keep_old_paths

__version__ = version("fipo")

keep_old_paths()
