"""The objective that a job trains with, from the recipe's table of the policy loss."""

from typing import Any

from fipo.errors import UserError
from fipo.integrations.verl.knobs import ACTOR, KEYS, POLICY_LOSS, Knobs, check_mode
from fipo.integrations.verl.launch.recipe import LaunchRecipe


def knobs_of(recipe: LaunchRecipe) -> Knobs:
    """FIPO's keys of the recipe, with which verl's clips agree.

    Raises UserError for a value that is none, and for a clip that is another one in verl's actor.
    """
    loss = recipe.table(POLICY_LOSS)
    given: dict[str, Any] = {key: None if loss[key] == "null" else loss[key] for key in KEYS if key in loss}
    try:
        knobs = Knobs(**given)
        knobs.check_clips(recipe.table(ACTOR))
        check_mode(recipe.value("trainer.v1.trainer_mode"), knobs.allow_async)
    except ValueError as error:
        raise UserError(f"verl.{error}") from None
    return knobs
