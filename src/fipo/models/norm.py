"""RMSNorm for less than a model's own module takes: one operation on CUDA, five cheap ones on a CPU."""

from functools import cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel


def fuse_norms(model: PreTrainedModel) -> int:
    """Compute the model's RMSNorms, weight x / sqrt(mean(x^2) + epsilon), in fewer operations; how many there are.

    Sampling and scoring both go through it. It is the module up to rounding: on CUDA one kernel of torch, which rounds
    once; on a CPU, where torch has none, from the length of x.
    """
    norms: list[Any] = [module for module in model.modules() if _is_plain(module)]
    for norm in norms:
        norm.register_buffer("fused_epsilon", _as_tensor(norm.variance_epsilon, norm.weight), persistent=False)
        norm.__class__ = _fused(cast(Any, type(norm)))  # a copy of the model keeps it, and so do its weights' names
    return len(norms)


@torch.no_grad()
def _is_plain(module: Any) -> bool:
    """Whether it is an RMSNorm with a weight, an epsilon and nothing else, by what it makes of some numbers."""
    weight, epsilon = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
    if not isinstance(weight, nn.Parameter) or weight.dim() != 1 or not isinstance(epsilon, float):
        return False
    if not weight.is_cuda and weight.dtype != torch.float32:
        return False  # the module goes through float32 and rounds once more
    usual = torch.linspace(-3, 3, 2 * len(weight), device=weight.device).view(2, -1)
    probe = torch.cat([usual, usual * epsilon**0.5]).to(weight.dtype)
    rounding = (4 if weight.is_cuda else 8) * torch.finfo(weight.dtype).eps  # from the length it rounds more often
    found = _rms_norm(probe, weight, epsilon, _as_tensor(epsilon, weight))
    return torch.allclose(module(probe), found, rtol=rounding, atol=rounding)


def _as_tensor(epsilon: float, weight: Tensor) -> Tensor:
    return torch.tensor([epsilon], dtype=torch.float32, device=weight.device)


def _rms_norm(x: Tensor, weight: Tensor, epsilon: float, as_tensor: Tensor) -> Tensor:
    if x.is_cuda:
        return F.rms_norm(x, weight.shape, weight, epsilon)
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    mean_square = torch.addcmul(as_tensor, length, length, value=1 / x.shape[-1])
    return x * mean_square.rsqrt() * weight


@cache
def _fused(plain: Any) -> Any:
    def forward(self: Any, hidden_states: Tensor) -> Tensor:
        return _rms_norm(hidden_states, self.weight, self.variance_epsilon, self.fused_epsilon)

    return type(plain.__name__, (plain,), {"forward": forward})
