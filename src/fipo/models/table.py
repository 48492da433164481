"""The `[model]` table of every recipe."""

from typing import Literal, Self

from pydantic import model_validator

from fipo.recipe.table import PathText, Table


class ModelTable(Table):
    path: PathText
    """"embedded", a local folder in transformers' format, a run directory (its newest checkpoint), or the name of a hub
    model."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto = float16 on CUDA, float32 elsewhere. In training the master weights are float32, and the loss of a float16
    policy is scaled. docs/precision.md says what each does to the credit."""
    head_dtype: Literal["auto", "float32", "model"] = "auto"
    """What logits are rounded to: float32, or the dtype of the model. auto = float32 where the output layer is a plain
    one."""
    matmul: Literal["float32", "tf32"] = "float32"
    """How a float32 model multiplies on CUDA: tf32 is several times faster and rounds the factors to 11 bits."""

    @model_validator(mode="after")
    def _tf32_of_float32(self) -> Self:
        if self.matmul == "tf32" and self.dtype != "float32":
            raise ValueError(f'model.matmul = "tf32" needs model.dtype = "float32", got {self.dtype!r}')
        return self
