"""The objective that a job trains with, from the recipe's table of the policy loss."""

from dataclasses import fields
from typing import Any

from fipo.errors import UserError
from fipo.integrations.verl.launch.keys import POLICY_LOSS
from fipo.integrations.verl.launch.recipe import LaunchRecipe
from fipo.objective import FIPOConfig, algorithm

CLIPS = {"clip_low": "clip_ratio_low", "clip_high": "clip_ratio_high", "dual_clip": "clip_ratio_c"}  # verl's names


def objective_of(recipe: LaunchRecipe) -> tuple[str, FIPOConfig]:
    """The preset, and the settings that it stands for with the recipe's own in place.

    Raises UserError for a setting that is none, and for a clip that is another one in verl's actor.
    """
    actor = recipe.table("actor_rollout_ref.actor")
    loss = recipe.table(POLICY_LOSS)
    preset = loss.get("preset", "release_32b")
    names = [field.name for field in fields(FIPOConfig) if field.name in loss]
    changes: dict[str, Any] = {name: None if loss[name] == "null" else loss[name] for name in names}
    try:
        cfg = algorithm(preset, **changes).config
    except ValueError as error:
        raise UserError(f"verl.{POLICY_LOSS}: {error}") from None
    for name, key in CLIPS.items():
        ours = getattr(cfg, name)
        if actor.get(key) != ours:
            raise UserError(
                f"verl.actor_rollout_ref.actor.{key} must be {ours:g}, the {name} of its policy_loss "
                f"(preset {preset}), got {actor.get(key)!r}"
            )
    return preset, cfg
