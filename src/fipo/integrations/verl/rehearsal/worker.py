"""verl's training worker over gloo, FIPO's synchronous trainer with it, and the task runner that uses both."""

from typing import Any

import ray
import torch
from verl.workers.engine_workers import ActorRolloutRefWorker

from fipo.integrations.verl.main import FIPOTaskRunner
from fipo.integrations.verl.rehearsal.registration import register_fsdp_for_cpu

TRAINER = "fipo_rehearsal"


class CPUActorRolloutRefWorker(ActorRolloutRefWorker):  # type: ignore[misc, unused-ignore]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        from verl.utils.distributed import initialize_global_process_group_ray

        torch.set_num_threads(1)
        super().__init__(*args, **kwargs)
        initialize_global_process_group_ray(backend="gloo")  # before verl asks for 'cpu:gloo,cpu:gloo'
        register_fsdp_for_cpu()


def register_trainer() -> None:
    from verl.trainer.ppo.v1 import PPOTrainerSync
    from verl.trainer.ppo.v1 import register_trainer as register

    from fipo.integrations.verl.v1 import with_fipo_loss

    class RehearsalTrainer(with_fipo_loss("sync", PPOTrainerSync)):  # type: ignore[misc]
        def _init_resource_pool_mgr(self) -> None:
            super()._init_resource_pool_mgr()
            for role in self.role_worker_mapping:
                self.role_worker_mapping[role] = ray.remote(CPUActorRolloutRefWorker)

    register(TRAINER)(RehearsalTrainer)


@ray.remote
class RehearsalTaskRunner(FIPOTaskRunner.__ray_actor_class__):  # type: ignore[misc, name-defined, unused-ignore]
    def run(self, config: Any) -> Any:
        register_trainer()
        config.trainer.v1.trainer_mode = TRAINER
        return super().run(config)
