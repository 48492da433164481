"""The `[objective]` table: one word for the algorithm, and any of its values overridden."""

from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from fipo.objective import ALGORITHMS, Algorithm, algorithm
from fipo.recipe.table import Table


def _known(preset: str) -> str:
    if preset not in ALGORITHMS:
        raise ValueError(f"must be one of {', '.join(map(repr, ALGORITHMS))}, got {preset!r}")
    return preset


def _or_off(value: Any, validate: ValidatorFunctionWrapHandler) -> Any:
    return value if value == "off" else validate(value)


OrOff = (WrapValidator(_or_off), PlainSerializer(lambda value: value, return_type=Any))
Number = Annotated[float, *OrOff]
Pair = Annotated[tuple[float, float], Field(strict=False), *OrOff]
Coefficient = Annotated[float, Field(ge=0, le=1e6)]


class ObjectiveTable(Table):
    model_config = ConfigDict(allow_inf_nan=True)  # an infinite threshold switches its rule off

    preset: Annotated[str, AfterValidator(_known)]
    """The algorithm: docs/objective.md has the table. A knob below that is left out has the preset's value, and "off"
    switches off what can be."""
    surrogate: str | None = None
    """A loss of your own in place of the preset's: `module:function`, found in the working directory."""
    half_life: float | None = None
    """Tokens after which what follows a token counts half in its FutureKL."""
    influence_clip: Pair | None = None
    """Bounds [low, high] of the influence weight f = exp(FutureKL); "off" = [0, 10]."""
    safety_threshold: Number | None = None
    """The influence weight of a token with a negative advantage and a larger ratio stays within [safety_floor, 1];
    "off" = of none."""
    safety_floor: float | None = None
    """See safety_threshold."""
    clip_low: float | None = None
    """A ratio below 1 - clip_low is clipped."""
    clip_high: float | None = None
    """A ratio above 1 + clip_high is clipped."""
    dual_clip: Number | None = None
    """Where the advantage is negative the loss of a token stops growing at this ratio; "off" = nowhere."""
    max_dual_clipped_tokens: int | Literal["off"] | None = None
    """A sequence with more tokens beyond the dual clip leaves the loss; "off" keeps every sequence."""
    tau_pos: Annotated[float, Field(le=1e6)] | None = None
    """How fast SAPO's gate closes where the advantage is positive."""
    tau_neg: Annotated[float, Field(le=1e6)] | None = None
    """The same elsewhere."""
    ratio_cap: float | None = None
    """DPPO counts a larger ratio as this one."""
    kl_coef: Coefficient = 0.0
    """Weight of a penalty on the KL divergence from the model as it was before training, which stays in memory beside
    the policy; 0 = none, and no second model."""
    entropy_coef: Coefficient = 0.0
    """Weight of a bonus on the entropy of the distribution that each trained token came from; 0 = none."""
    importance_weight_cap: Annotated[float, Field(gt=0, le=1e6), *OrOff] | None = None
    """Weigh each token's loss by min(trainer's / sampler's probability, this); left out = no weights."""
    importance_mask: Pair | None = None
    """Leave tokens out of the loss whose trainer's / sampler's probability is outside [low, high]; left out = none."""
    importance_mask_level: Literal["token", "sequence"] = "token"
    """"sequence" leaves out whole responses, by the geometric mean of their tokens' ratios."""

    @model_validator(mode="after")
    def _valid_together(self) -> Self:
        self.algorithm()
        return self

    def algorithm(self) -> Algorithm:
        """The preset with this table's own values in place."""
        return algorithm(**self.model_dump(exclude_none=True))
