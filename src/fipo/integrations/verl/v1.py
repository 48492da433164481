"""verl's V1 trainers with FIPO's whole loss: nothing else differs.

The class of each mode is registered as `fipo_MODE`; `main.py` chooses it.
"""

from typing import Any

from verl.trainer.ppo.v1 import (
    PPOTrainer,
    PPOTrainerColocateAsync,
    PPOTrainerSeparateAsync,
    PPOTrainerSync,
    register_trainer,
)

from fipo.integrations.verl.compat import VerlMismatch, check_whole_loss
from fipo.integrations.verl.credit import STEP_KEY
from fipo.integrations.verl.loss import WorkerLoss
from fipo.integrations.verl.validate import check_config

PREFIX = "fipo_"
MODES: dict[str, type[PPOTrainer]] = {
    "sync": PPOTrainerSync,
    "colocate_async": PPOTrainerColocateAsync,
    "separate_async": PPOTrainerSeparateAsync,
}


def with_fipo_loss(mode: str, base: Any) -> Any:
    """The trainer of a mode whose workers get `WorkerLoss` as soon as their model is there."""

    class FIPOTrainer(base):  # type: ignore[misc, unused-ignore]
        def __init__(self, config: Any) -> None:
            check_config(config)
            check_whole_loss()
            config.trainer.v1.trainer_mode = mode  # verl also looks other settings up by this name
            super().__init__(config)

        def _setup(self) -> None:
            super()._setup()
            actor = self.config.actor_rollout_ref
            self.actor_rollout_wg.set_loss_fn(WorkerLoss(actor.actor, actor.model))

        def _update_actor(self, batch: Any, metrics: dict[str, Any]) -> Any:
            batch.extra_info[STEP_KEY] = self.global_steps
            return super()._update_actor(batch, metrics)

    for name in ("_setup", "_update_actor"):
        if not callable(getattr(base, name, None)):
            raise VerlMismatch(f"verl's {base.__name__} must have {name}")
    FIPOTrainer.__name__ = f"FIPO{base.__name__}"
    return FIPOTrainer


for _mode, _base in MODES.items():
    register_trainer(PREFIX + _mode)(with_fipo_loss(_mode, _base))
