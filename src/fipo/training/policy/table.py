"""The `[model]` table of a recipe for training."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from fipo.models.table import ModelTable
from fipo.recipe.table import Table


class LoraTable(Table):
    """Train low-rank adapters on frozen weights (peft) instead of the whole model."""

    rank: PositiveInt = 32
    alpha: PositiveFloat = 64.0
    """An adapter's product is scaled by alpha / rank."""
    targets: Literal["all-linear"] | Annotated[tuple[str, ...], Field(strict=False)] = "all-linear"
    """Names of the layers that get an adapter, such as q_proj; "all-linear" = every linear layer but the head."""


class PolicyTable(ModelTable):
    lora: LoraTable | None = None
    """Left out = train all weights."""
