"""The options of the policy loss `future_kl` in verl: `actor_rollout_ref.actor.policy_loss`.

actor_rollout_ref.actor.policy_loss._target_=fipo.integrations.verl.config.FIPOPolicyLossConfig
actor_rollout_ref.actor.policy_loss.loss_mode=future_kl
+actor_rollout_ref.actor.policy_loss.preset=release_32b
"""

from dataclasses import dataclass

from verl.workers.config import PolicyLossConfig

from fipo.integrations.verl.knobs import LOSS_NAME, POLICY_LOSS, Knobs
from fipo.integrations.verl.policy_loss import require_registered


@dataclass
class FIPOPolicyLossConfig(Knobs, PolicyLossConfig):  # type: ignore[misc, unused-ignore] # verl may not be installed
    """verl's options of a policy loss, and FIPO's; unknown keys are refused.

    Errors: VerlMismatch in a process where verl did not load the plugin, ValueError for a value that is none.
    """

    loss_mode: str = LOSS_NAME

    def __post_init__(self) -> None:
        require_registered()
        if self.loss_mode != LOSS_NAME:
            raise ValueError(f"{POLICY_LOSS}.loss_mode must be {LOSS_NAME}, got {self.loss_mode!r}")
        super().__post_init__()
