"""The `[model]` table of every recipe."""

from typing import Literal

from fipo.recipe.table import PathText, Table


class ModelTable(Table):
    path: PathText
    """"embedded", a local folder in transformers' format, or the name of a hub model."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto = bfloat16 on CUDA, float32 elsewhere. In training the master weights are float32."""
