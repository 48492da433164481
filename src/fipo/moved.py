"""Import paths of version 0.6, for one release: the module of the new name, with a DeprecationWarning.

`fipo.tasks.grade` and the like stand in other packages since 0.7. This file goes with 0.8.
"""

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import CodeType, ModuleType
from typing import Any

MOVED = {
    "fipo.tasks": "fipo.data",
    "fipo.tasks.grade": "fipo.grading.grade",
    "fipo.tasks.graders": "fipo.grading.registry",
    "fipo.tasks.grading_pool": "fipo.grading.workers.pool",
    "fipo.tasks.math_answer": "fipo.grading.answers.math",
    "fipo.tasks.bad_rows": "fipo.data.bad_rows",
    "fipo.tasks.problem": "fipo.data.problem",
    "fipo.tasks.sources": "fipo.data.sources",
    "fipo.tasks.signed_sums": "fipo.data.made.signed_sums",
    "fipo.tasks.countdown": "fipo.data.made.countdown",
    "fipo.training.config": "fipo.training.recipe",
    "fipo.training.checkpoint": "fipo.training.saving.checkpoint",
    "fipo.health": "fipo.doctor.run",
    "fipo.launch": "fipo.integrations.verl.launch",
    "fipo.launch.collect": "fipo.integrations.verl.launch.collect",
    "fipo.launch.schema": "fipo.integrations.verl.launch.schema",
}


class _Alias(Loader):
    """Loads the module of the new name in place of the old one: the same object under both."""

    def __init__(self, new: str) -> None:
        self.new = new
        self.spec: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.new)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec  # the import of the old name has put its own there

    def get_code(self, _: str) -> CodeType | None:
        """For `python -m` with the old name."""
        spec: Any = find_spec(self.new)
        return spec.loader.get_code(self.new)


class _MovedFinder(MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> Any:
        new = MOVED.get(name)
        if new is None:
            return None
        warnings.warn(f"{name} is {new} since fipo 0.7; the old name goes with 0.8", DeprecationWarning, stacklevel=2)
        return ModuleSpec(name, _Alias(new), is_package=name in ("fipo.tasks", "fipo.health", "fipo.launch"))


def keep_old_paths() -> None:
    """Let the old names be imported."""
    if not any(isinstance(finder, _MovedFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _MovedFinder())  # before a folder of the old name that only holds __pycache__
