"""An output layer whose logits are not rounded to the precision of the model."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel


class WideHead(nn.Linear):
    """A linear layer of a half-precision model that gives float32: of inputs and weights as they are, h W^T + b.

    Products of two half-precision numbers are exact in float32, so the sums alone are rounded. On CUDA it is the same
    half-precision product with its result written as float32; elsewhere one in float32, with a copy of the weights.
    Gradients take the model's precision first, as they do behind a plain layer.
    """

    def forward(self, input: Tensor) -> Tensor:
        if input.element_size() >= 4:
            return F.linear(input, self.weight, self.bias)
        if torch.is_grad_enabled():
            wide: Tensor = _WideProduct.apply(input, self.weight)
        else:
            wide = _product(input, self.weight)
        return wide if self.bias is None else wide + self.bias.float()


def widen_head(model: PreTrainedModel) -> bool:
    """Put a WideHead around the weights of a model's output layer, tied ones too; False if that is no plain layer.

    Sampling and scoring both go through it. A model in float32 computes what it did.
    """
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear:
        return False
    wide = WideHead(head.in_features, head.out_features, bias=head.bias is not None, device="meta")
    wide.weight, wide.bias = head.weight, head.bias
    model.set_output_embeddings(wide.eval())
    return True


def _product(hidden: Tensor, weight: Tensor) -> Tensor:
    """[..., V] float32 of hidden [..., H] and weight [V, H]."""
    if not hidden.is_cuda:
        return F.linear(hidden.float(), weight.float())
    return torch.mm(hidden.flatten(0, -2), weight.t(), out_dtype=torch.float32).view(*hidden.shape[:-1], -1)


class _WideProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(hidden, weight)
        return _product(hidden, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        hidden, weight = ctx.saved_tensors
        of_hidden, of_weight = ctx.needs_input_grad
        narrow = gradient.to(hidden.dtype)
        return (
            narrow @ weight if of_hidden else None,
            narrow.flatten(0, -2).t() @ hidden.flatten(0, -2) if of_weight else None,
        )
