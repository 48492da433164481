"""How a model of a recipe computes: its precision, that of its logits, and that of products on CUDA."""

from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fipo.errors import UserError
from fipo.models.four_bit import quantise
from fipo.models.head import widen_head
from fipo.models.loading import dtype_of, load
from fipo.models.norm import fuse_norms
from fipo.models.table import ModelTable


def load_as(
    table: ModelTable, device: torch.device, path: str | Path | None = None, *, four_bit: bool = False
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """(model, tokenizer) of a `[model]` table, or of another `path` in its place. Sums are never rounded half-way.

    four_bit: frozen, its linear layers but the output layer in 4 bits (`fipo.models.four_bit`).
    Raises UserError if it cannot be loaded, or cannot compute as the table says.
    """
    name = str(path or table.path)
    multiply_in(table.matmul)
    model, tokenizer = load(name, "cpu" if four_bit else device, dtype_of(table.dtype, device))
    if model.dtype == torch.float16:
        _check_range(model, name)
    if four_bit:
        quantise(model, device)
    fuse_norms(model)
    half = model.dtype.itemsize < 4
    if half and table.head_dtype != "model" and not widen_head(model) and table.head_dtype == "float32":
        raise UserError(
            f'model.head_dtype: "float32" needs a plain linear output layer, and that of {name} is none: use "model"'
        )
    return model, tokenizer


def multiply_in(matmul: str) -> None:
    """Whether CUDA rounds the factors of float32 products to TF32; in this process, from now on."""
    cuda = torch.backends.cuda.matmul
    cuda.allow_tf32 = matmul == "tf32"
    cuda.allow_bf16_reduced_precision_reduction = cuda.allow_fp16_reduced_precision_reduction = False


def _check_range(model: PreTrainedModel, path: str) -> None:
    for name, weight in model.named_parameters():
        if not bool(weight.isfinite().all()):
            raise UserError(f'model.dtype: "float16" ends at 65504, and {name} of {path} is beyond it: use "bfloat16"')
