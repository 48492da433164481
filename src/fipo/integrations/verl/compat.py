"""Is the installed verl the one that these adapters were written for?

verl swallows what a plugin raises, so `check_interface` runs at registration and again when the options of the
loss are built, where its message reaches the user.
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import fields

from packaging.version import Version

OLDEST, TOO_NEW = "0.9.1", "0.10"
LOSS_KEYWORDS = (
    "old_log_prob",
    "log_prob",
    "advantages",
    "response_mask",
    "loss_agg_mode",
    "config",
    "rollout_is_weights",
)
WHOLE_LOSS_PARAMETERS = ("config", "model_output", "data", "dp_group")
ACTOR_FIELDS = (
    "strategy",
    "clip_ratio_low",
    "clip_ratio_high",
    "clip_ratio_c",
    "loss_agg_mode",
    "loss_scale_factor",
    "policy_loss",
    "engine",
    "model_config",
    "global_batch_info",
)


class VerlMismatch(RuntimeError):
    """The installed verl, or how it was set up, is not what FIPO needs."""


def check_interface() -> None:
    """Raise VerlMismatch with the first difference from the verl that we know."""
    import verl

    if not Version(OLDEST) <= Version(verl.__version__) < Version(TOO_NEW):
        raise VerlMismatch(f"fipo needs verl >= {OLDEST}, < {TOO_NEW}, got {verl.__version__}")

    from verl.trainer.ppo import core_algos
    from verl.utils.metric import AggregationType
    from verl.workers.config import ActorConfig

    vanilla = core_algos.POLICY_LOSS_REGISTRY.get("vanilla")
    if vanilla is None:
        raise VerlMismatch("verl's registry of policy losses must hold 'vanilla', whose interface fipo's has")
    require_parameters("verl's policy loss 'vanilla'", vanilla, LOSS_KEYWORDS)
    require_names("verl's ActorConfig", (field.name for field in fields(ActorConfig)), ACTOR_FIELDS)
    require_names("verl's metric aggregations", AggregationType.__members__, ("SUM", "MIN", "MAX"))


def check_whole_loss() -> None:
    """The same for verl's `ppo_loss`, which only the training workers import."""
    from verl.workers.utils.losses import ppo_loss

    require_parameters("verl's ppo_loss", ppo_loss, WHOLE_LOSS_PARAMETERS)


def require_parameters(what: str, function: Callable[..., object], expected: tuple[str, ...]) -> None:
    found = tuple(inspect.signature(function).parameters)
    if found != expected:
        raise VerlMismatch(f"{what} must take ({', '.join(expected)}), got ({', '.join(found)})")


def require_names(what: str, found: Iterable[str], expected: tuple[str, ...]) -> None:
    missing = sorted(set(expected) - set(found))
    if missing:
        raise VerlMismatch(f"{what} must have {', '.join(expected)}; missing: {', '.join(missing)}")
