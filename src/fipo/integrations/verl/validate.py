"""What can be checked of verl's whole configuration before any work."""

import logging
import socket
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from fipo.grading.registry import resolve
from fipo.integrations.shared import FailurePolicy
from fipo.integrations.verl.checks import check_engine
from fipo.integrations.verl.knobs import LOSS_NAME, POLICY_LOSS, check_mode, original
from fipo.integrations.verl.lengths import check_lengths
from fipo.integrations.verl.policy_loss import aggregation_of, longest_of, options_of, require_registered
from fipo.integrations.verl.reward import DEFAULT_GRADER, OUR_REWARD

REWARD = "reward.custom_reward_function.reward_kwargs"

logger = logging.getLogger(__name__)


def check_config(config: Any) -> None:
    """Raise ValueError or VerlMismatch with one line unless verl's configuration trains with FIPO as written.

    And UserError for a grader that cannot be had: raised where it grades, it would fail every group in silence.
    Warns of what is legal and may not do what its reader thinks.
    """
    from verl.utils.config import omega_conf_to_dataclass

    require_registered()
    for key in config.actor_rollout_ref.actor.policy_loss:
        if answer := original(key):
            raise ValueError(answer)
    model = config.actor_rollout_ref.model
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    actor.model_config = {"override_config": model.get("override_config", None) or {}}
    _must_be(f"{POLICY_LOSS}.loss_mode", actor.policy_loss.loss_mode, LOSS_NAME)
    chosen = options_of(actor).algorithm()
    check_mode(OmegaConf.select(config, "trainer.v1.trainer_mode"), actor.policy_loss.allow_async)
    check_engine(actor)
    aggregation_of(actor.loss_agg_mode)
    longest_of(actor.loss_agg_mode, actor)

    correction = config.algorithm.get("rollout_correction", None) or {}
    distillation = config.get("distillation", None) or {}
    # with the sampler's log-probs as the old ones, the future KL would add up its rounding
    _must_be("algorithm.rollout_correction.bypass_mode", bool(correction.get("bypass_mode", False)), False)
    _must_be("distillation.enabled", bool(distillation.get("enabled", False)), False)

    policy = failure_policy(config)
    dynamic = bool((config.algorithm.get("filter_groups", None) or {}).get("enable", False))
    if policy.drops_groups and not dynamic:
        raise ValueError(f"{REWARD}.on_failure drop_group needs algorithm.filter_groups.enable, which refills")
    if config.reward.custom_reward_function.path == OUR_REWARD:
        resolve(_reward_kwargs(config).get("grader", DEFAULT_GRADER))

    if actor.ppo_mini_batch_size >= config.data.train_batch_size and actor.ppo_epochs == 1:
        logger.warning(
            "actor.ppo_mini_batch_size %s >= data.train_batch_size %s: with one update per batch every ratio is 1, "
            "so every influence weight is 1 and FIPO is DAPO",
            actor.ppo_mini_batch_size,
            config.data.train_batch_size,
        )
    for note in chosen.notes():
        logger.warning("actor.policy_loss: %s", note)


def failure_policy(config: Any) -> FailurePolicy:
    """What follows where our graders fail. Raises ValueError for a word or a number that is none."""
    kwargs = _reward_kwargs(config)
    try:
        return FailurePolicy(kwargs.get("on_failure", "zero"), kwargs.get("max_failures", None))
    except ValueError as error:
        raise ValueError(f"{REWARD}.{error}") from None


def _reward_kwargs(config: Any) -> Any:
    return config.reward.custom_reward_function.get("reward_kwargs", None) or {}


def check_files(config: Any) -> None:
    """Raise FileNotFoundError with one line for a model or data file that this node does not see.

    And ValueError for lengths that the model does not have. Hub models and addresses with :// are not looked at.
    """
    data = config.data
    places = {
        "actor_rollout_ref.model.path": config.actor_rollout_ref.model.path,
        "data.train_files": data.train_files,
        "data.val_files": data.val_files,
    }
    for key, value in places.items():
        for place in [value] if isinstance(value, str) else value:
            if place.startswith("/") and not Path(place).exists():
                raise FileNotFoundError(
                    f"{key}: {place} is not there on node {socket.gethostname()}, where verl reads it"
                )
    check_lengths(partial(OmegaConf.select, config), places["actor_rollout_ref.model.path"])


def _must_be(key: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise ValueError(f"{key} must be {expected} with FIPO, got {found!r}")
