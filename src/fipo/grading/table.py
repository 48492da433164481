"""The `[grading]` table that every recipe with a grader has."""

from typing import Annotated, Literal

from pydantic import Field

from fipo.grading.workers.pool import GraderPool
from fipo.recipe.table import InAllOrNone, Table


class GradingTable(Table):
    """Graders run in worker processes that are killed when they hang."""

    workers: Annotated[int, Field(gt=0, le=1024)] = 2
    """Processes that grade beside one another."""
    deadline_seconds: Annotated[float, Field(gt=0, le=1e6)] = 10.0
    """For each answer. An answer whose grader takes longer has the outcome "timeout"."""
    memory_mib: Annotated[int, Field(gt=0, le=2**24)] = 2048
    """That grading may take beyond what the worker has when it starts; more is the outcome "crash"."""

    def pool(self, grader: str) -> GraderPool:
        return GraderPool(
            grader, workers=self.workers, deadline_seconds=self.deadline_seconds, memory_mib=self.memory_mib
        )


class RunGradingTable(GradingTable):
    """And what follows in a training run where they fail."""

    on_failure: Literal["zero", "drop_group"] = "zero"
    """After a timeout or crash: a reward of 0, between right and wrong, or a group that is not trained on."""
    max_failures: InAllOrNone | None = None
    """More timeouts and crashes than this in a run end it, with its state saved; left out = no limit."""
