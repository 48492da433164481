"""The policies that bench/precision.py compares: copies of a float32 model that compute otherwise."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fipo.models.head import widen_head
from fipo.models.loading import dtype_of


@dataclass(frozen=True, kw_only=True)
class Policy:
    name: str
    dtype: torch.dtype = torch.float32  # that weights are rounded to
    arithmetic: torch.dtype = torch.float32
    wide_head: bool = False

    def of(self, model: PreTrainedModel) -> PreTrainedModel:
        """A copy of a float32 model that is this policy."""
        found = copy.deepcopy(model)
        for parameter in found.parameters():  # and no buffers, which stay in float32 where a model is loaded
            parameter.data = parameter.data.to(self.dtype).to(self.arithmetic)
        if self.wide_head and not widen_head(found):
            raise SystemExit(f"{type(model).__name__} has no plain output layer")
        return found


FLOAT32 = Policy(name="float32")


def policies_in(dtypes: Sequence[str]) -> list[Policy]:
    found = []
    for name in dtypes:
        dtype = dtype_of(name, torch.device("cpu"))
        found += [
            Policy(name=name, dtype=dtype, arithmetic=dtype),
            Policy(name=f"{name}, float32 head", dtype=dtype, arithmetic=dtype, wide_head=True),
            Policy(name=f"weights in {name}, float32 arithmetic", dtype=dtype),
        ]
    return found


def changed(model: PreTrainedModel, start: PreTrainedModel, dtype: torch.dtype) -> float:
    """The share of weights that are others in `dtype`."""
    pairs = list(zip(model.parameters(), start.parameters(), strict=True))
    different = sum(int((a.to(dtype) != b.to(dtype)).sum()) for a, b in pairs)
    return different / sum(a.numel() for a, _ in pairs)


@torch.no_grad()
def begin(model: PreTrainedModel, *, anywhere: bool) -> None:
    """Weights of a published model, exact in bfloat16; or masters in the middle of training, anywhere in its cells."""
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        parameter.copy_(parameter.bfloat16())
        if anywhere:
            parameter.add_(_within_cell(parameter, generator))


def _within_cell(weight: Tensor, generator: torch.Generator) -> Tensor:
    """A random part of the distance to where bfloat16 would round otherwise, to either side."""
    ulp = 2.0 ** (weight.abs().clamp(min=2.0**-126).log2().floor() - 7)
    share = 0.98 * (torch.rand(weight.shape, generator=generator) - 0.5)
    return share.to(weight.device) * ulp
