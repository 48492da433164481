"""verl's training worker over gloo, FIPO's synchronous trainer with it, and the task runner that uses both."""

from typing import Any

import ray
import torch
from verl.workers.engine_workers import ActorRolloutRefWorker

from fipo.integrations.verl.rehearsal.registration import register_fsdp_for_cpu
from fipo.integrations.verl.v1 import MODES, FIPOTaskRunner, register_trainer, with_fipo_loss, with_worker

TRAINER = "fipo_rehearsal"


class CPUActorRolloutRefWorker(ActorRolloutRefWorker):  # type: ignore[misc, unused-ignore]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        from verl.utils.distributed import initialize_global_process_group_ray

        torch.set_num_threads(1)
        super().__init__(*args, **kwargs)
        initialize_global_process_group_ray(backend="gloo")  # before verl asks for 'cpu:gloo,cpu:gloo'
        register_fsdp_for_cpu()


register_trainer(TRAINER)(with_worker(with_fipo_loss("sync", MODES["sync"]), CPUActorRolloutRefWorker))


@ray.remote
class RehearsalTaskRunner(FIPOTaskRunner.__ray_actor_class__):  # type: ignore[misc, name-defined, unused-ignore]
    def run(self, config: Any) -> Any:
        import fipo.integrations.verl.rehearsal.worker  # noqa: F401 Ray sends this class by value

        config.trainer.v1.trainer_mode = TRAINER
        return super().run(config)
