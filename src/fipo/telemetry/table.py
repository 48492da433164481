"""The `[telemetry]` table of a recipe."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from fipo.recipe.table import InAllOrNone, Table
from fipo.telemetry.trackers import TrackerName


def _one_of_a_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class TelemetryTable(Table):
    rollout_groups: InAllOrNone = 4
    """Groups per step written to rollouts/ with per-token credit, spread over its mini-batches."""
    noise_every: InAllOrNone = 10
    """Steps between measurements of what of the credit is rounding, the first step included; 0 = never. Each scores one
    micro-batch twice more, in float32; a float32 policy without TF32 needs none."""
    on_lost_rollouts: Literal["stop", "continue"] = "stop"
    """When rollouts/ cannot be written, on a full disk for example: end the run, or carry on without that file."""
    stall_seconds: Annotated[float, Field(gt=0, le=1e6)] = 1800.0
    """Longest time without a sign of life (a decoded token, a graded answer, a micro-batch) before the run writes
    the stacks of all threads and graders to stall.txt and ends."""
    trackers: Annotated[tuple[TrackerName, ...], Field(strict=False), BeforeValidator(_one_of_a_list)] = ()
    """Programs that show metrics.jsonl: tensorboard, wandb, swanlab, trackio, one or a list of them; each needs the
    extra of its name. They write into trackers/ of the run directory, and leave the machine only if asked to:
    docs/trackers.md."""
