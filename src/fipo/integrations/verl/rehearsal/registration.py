"""The rehearsal's rollout engine under its name, in every process. verl has no public call for the adapter's part."""

from typing import Any

from verl.workers.rollout.base import _ROLLOUT_REGISTRY
from verl.workers.rollout.replica import RolloutReplicaRegistry

ROLLOUT = "fipo_cpu"


def _replica() -> Any:
    from fipo.integrations.verl.rehearsal.rollout import CPUReplica

    return CPUReplica


def register_fsdp_for_cpu() -> None:
    """verl registers its FSDP2 engine for CUDA and NPU; over gloo it works as it is."""
    from verl.workers.engine import EngineRegistry, FSDPEngineWithLMHead

    if "cpu" not in EngineRegistry._engines["language_model"]["fsdp2"]:
        EngineRegistry.register("language_model", "fsdp2", device="cpu")(FSDPEngineWithLMHead)


_ROLLOUT_REGISTRY[(ROLLOUT, "async")] = "fipo.integrations.verl.rehearsal.rollout.CPURollout"
RolloutReplicaRegistry.register(ROLLOUT, _replica)
