"""The `[grading]` table that every recipe with a grader has."""

from pydantic import PositiveFloat, PositiveInt

from fipo.grading.workers.pool import GraderPool
from fipo.recipe.table import Table


class GradingTable(Table):
    """Graders run in worker processes that are killed when they hang."""

    workers: PositiveInt = 2
    deadline_seconds: PositiveFloat = 10.0
    """For each answer. An answer whose grader takes longer has the outcome "timeout"."""
    memory_mib: PositiveInt = 2048
    """That grading may take beyond what the worker has when it starts; more is the outcome "crash"."""

    def pool(self, grader: str) -> GraderPool:
        return GraderPool(
            grader, workers=self.workers, deadline_seconds=self.deadline_seconds, memory_mib=self.memory_mib
        )
