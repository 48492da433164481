"""What can be checked of verl's whole configuration before any work."""

from typing import Any

from fipo.integrations.verl.checks import check_engine
from fipo.integrations.verl.policy_loss import LOSS_NAME, aggregation_of, divisor_of, require_registered


def check_config(config: Any) -> None:
    """Raise ValueError or VerlMismatch with one line unless verl's configuration trains with FIPO as written."""
    from verl.utils.config import omega_conf_to_dataclass

    from fipo.integrations.verl.config import objective_of

    require_registered()
    model = config.actor_rollout_ref.model
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    actor.model_config = _ModelKeys(override_config=model.get("override_config", None) or {})
    if actor.policy_loss.loss_mode != LOSS_NAME:
        raise ValueError(
            f"actor_rollout_ref.actor.policy_loss.loss_mode must be {LOSS_NAME}, got {actor.policy_loss.loss_mode!r}"
        )
    objective_of(actor)
    check_engine(actor)
    aggregation_of(actor.loss_agg_mode)
    divisor_of(actor.loss_agg_mode, actor)
    correction = config.algorithm.get("rollout_correction", None) or {}
    if correction.get("rollout_is", None) is not None:
        raise ValueError("algorithm.rollout_correction.rollout_is must be null: future_kl takes no importance weights")


class _ModelKeys(dict[str, Any]):
    """The model's keys before the model is loaded, with a configuration object's `get`."""
