"""The `[objective]` table: one word for the algorithm, and any of its values overridden."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from fipo.objective import Algorithm, algorithm
from fipo.recipe.table import Table


class ObjectiveTable(Table):
    model_config = ConfigDict(allow_inf_nan=True)  # an infinite threshold switches its rule off

    preset: Literal["release_32b", "release_7b", "paper_32b", "paper_7b", "dapo", "grpo", "dr_grpo"]
    half_life: float | None = None
    influence_clip: Annotated[tuple[float, float], Field(strict=False)] | None = None
    safety_threshold: float | None = None
    safety_floor: float | None = None
    clip_low: float | None = None
    clip_high: float | None = None
    dual_clip: float | None = None
    max_dual_clipped_tokens: int | Literal["off"] | None = None
    """"off" keeps every sequence."""
    kl_coef: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    """Weight of a penalty on the KL divergence from the model as it was before training, which stays in memory beside
    the policy; 0 = none, and no second model."""
    importance_weight_cap: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Weigh each token's loss by min(trainer's / sampler's probability, this); left out = no weights."""

    @model_validator(mode="after")
    def _valid_together(self) -> Self:
        self.algorithm()
        return self

    def algorithm(self) -> Algorithm:
        """The preset with this table's own values in place."""
        return algorithm(**self.model_dump(exclude_none=True))
