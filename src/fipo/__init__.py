"""fipo: reinforcement learning for reasoning with dense, critic-free credit."""

from importlib.metadata import PackageNotFoundError, version

from fipo.moved import keep_old_paths

try:
    __version__ = version("fipo")
except PackageNotFoundError:  # a source tree on the path
    __version__ = "0+source"

keep_old_paths()
