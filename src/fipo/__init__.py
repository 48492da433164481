"""fipo: reinforcement learning for reasoning with dense, critic-free credit."""

from importlib.metadata import version

__version__ = version("fipo")
