"""The `[model]` table of a recipe for training."""

from typing import Annotated, Literal

from pydantic import Field

from fipo.models.table import ModelTable
from fipo.recipe.table import Table


class LoraTable(Table):
    """Train low-rank adapters on frozen weights (peft) instead of the whole model."""

    rank: Annotated[int, Field(gt=0, le=2**14)] = 32
    """The rank of an adapter's two matrices: more can learn more, and takes more memory."""
    alpha: Annotated[float, Field(gt=0, le=1e6)] = 64.0
    """An adapter's product is scaled by alpha / rank."""
    base: Literal["model", "4bit"] = "model"
    """The frozen weights: those of the model in model.dtype, or linear layers but the head in 4 bits (NF4,
    bitsandbytes), which take a quarter of the memory and more time."""
    targets: Literal["all-linear"] | Annotated[tuple[str, ...], Field(strict=False)] = "all-linear"
    """Names of the layers that get an adapter, such as q_proj; "all-linear" = every linear layer but the head."""


class PolicyTable(ModelTable):
    lora: LoraTable | None = None
    """Left out = train all weights."""
