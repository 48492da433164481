"""The options of the policy loss `future_kl` in verl: `actor_rollout_ref.actor.policy_loss`.

actor_rollout_ref.actor.policy_loss._target_=fipo.integrations.verl.config.FIPOPolicyLossConfig
actor_rollout_ref.actor.policy_loss.loss_mode=future_kl
+actor_rollout_ref.actor.policy_loss.preset=release_32b
"""

from dataclasses import dataclass, fields
from typing import Any

from verl.workers.config import PolicyLossConfig

from fipo.integrations.verl.compat import VerlMismatch
from fipo.integrations.verl.policy_loss import LOSS_NAME, require_registered
from fipo.objective import FIPOConfig, algorithm

FROM_PRESET = "preset"  # "as the preset has it"; null is a value of its own
DENOMINATORS = ("verl", "kept")
ACTOR_KEYS = {"clip_low": "clip_ratio_low", "clip_high": "clip_ratio_high", "dual_clip": "clip_ratio_c"}
WHERE = "actor_rollout_ref.actor"


@dataclass
class FIPOPolicyLossConfig(PolicyLossConfig):  # type: ignore[misc, unused-ignore] # verl may not be installed
    """A preset of `FIPOConfig` and what to change in it, under FIPOConfig's names; unknown keys are refused.

    clip_low, clip_high and dual_clip are verl's `actor.clip_ratio_low`, `_high` and `_c`, which other parts of verl
    read: they are set there, and refused unless they are what the preset (or an override here) says.
    """

    loss_mode: str = LOSS_NAME
    preset: str = "release_32b"
    half_life: Any = FROM_PRESET
    influence_clip: Any = FROM_PRESET
    safety_threshold: Any = FROM_PRESET
    safety_floor: Any = FROM_PRESET
    clip_low: Any = FROM_PRESET
    clip_high: Any = FROM_PRESET
    dual_clip: Any = FROM_PRESET
    max_dual_clipped_tokens: Any = FROM_PRESET
    # what token-mean divides by where the filter dropped sequences: "verl", all loss tokens of the mini-batch;
    # "kept", those of the sequences that stayed (objective.md), which needs one micro-batch per mini-batch
    denominator: str = "verl"
    credit_sequences: int = 0  # of each mini-batch of the first rank; needs fipo.integrations.verl.main
    credit_dir: str | None = None

    def __post_init__(self) -> None:
        require_registered()
        if self.loss_mode != LOSS_NAME:
            raise ValueError(f"{WHERE}.policy_loss.loss_mode must be {LOSS_NAME}, got {self.loss_mode!r}")
        if self.denominator not in DENOMINATORS:
            raise ValueError(f"{WHERE}.policy_loss.denominator must be verl or kept, got {self.denominator!r}")
        if self.credit_sequences < 0 or (self.credit_sequences > 0) != (self.credit_dir is not None):
            raise ValueError(
                f"{WHERE}.policy_loss: credit_sequences > 0 and credit_dir go together, "
                f"got {self.credit_sequences} and {self.credit_dir!r}"
            )
        self.fipo_config()

    def fipo_config(self) -> FIPOConfig:
        """The objective's own configuration. Raises ValueError with the key, the rule and the value."""
        given = {field.name: getattr(self, field.name) for field in fields(FIPOConfig)}
        changes = {name: _plain(value) for name, value in given.items() if value != FROM_PRESET}
        try:
            return algorithm(self.preset, **changes).config
        except ValueError as error:
            raise ValueError(f"{WHERE}.policy_loss: {error}") from None


def objective_of(actor: Any) -> FIPOConfig:
    """The objective of verl's ActorConfig, once its clips are found to agree.

    Raises VerlMismatch for the stock options, ValueError where a clip is one thing here and another there.
    """
    options = actor.policy_loss
    if not isinstance(options, FIPOPolicyLossConfig):
        raise VerlMismatch(
            f"{WHERE}.policy_loss._target_ must be {FIPOPolicyLossConfig.__module__}.FIPOPolicyLossConfig "
            f"for loss_mode {LOSS_NAME}, got {type(options).__module__}.{type(options).__name__}"
        )
    cfg = options.fipo_config()
    for name, theirs in ACTOR_KEYS.items():
        ours, found = getattr(cfg, name), getattr(actor, theirs)
        if float(found) != float(ours):
            raise ValueError(
                f"{WHERE}.{theirs} must be {ours:g}, the {name} of {WHERE}.policy_loss (preset {options.preset}), "
                f"got {found:g}"
            )
    return cfg


def _plain(value: Any) -> Any:
    """OmegaConf's lists as tuples."""
    return value if value is None or isinstance(value, str | int | float) else tuple(value)
