"""Linear layers whose frozen weights are kept in 4 bits (NF4, of QLoRA, arXiv 2305.14314), by bitsandbytes' kernels."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from fipo.errors import MissingExtra, UserError
from fipo.extras import import_bitsandbytes, install_hint

BLOCK = 64  # weights that share a scale
ROUNDED_TO = "fipo_weights_rounded_to"  # in config.json of a model whose weights are some of the 16 of each block


class FourBitLinear(nn.Linear):
    """x W^T + b, where W [out, in] is one of 16 values times the largest of its block, and made anew in each pass.

    One product for every caller: what is sampled, scored and differentiated has the same bits, which it has not with
    bitsandbytes' own layer, whose product of a single token is another.
    """

    def __init__(self, linear: nn.Linear, device: torch.device) -> None:
        nn.Module.__init__(self)  # nn.Linear's own makes weights
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.dtype = linear.weight.dtype
        self.bias = linear.bias
        weight = linear.weight.detach().to(device).contiguous()
        codes, scales = torch.ops.bitsandbytes.quantize_4bit(weight, BLOCK, "nf4", torch.uint8)
        self.codes = nn.Parameter(codes, requires_grad=False)  # [out * in / 2, 1] uint8, two weights in each
        self.scales = nn.Parameter(scales, requires_grad=False)  # [out * in / BLOCK] float32

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """[out, in] in the precision that the weights had, a new tensor each time."""
        shape = (self.out_features, self.in_features)
        weight: Tensor = torch.ops.bitsandbytes.dequantize_4bit(
            self.codes, self.scales, BLOCK, "nf4", shape, self.dtype
        )
        return weight

    def forward(self, input: Tensor) -> Tensor:
        product: Tensor = _Product.apply(input, self) if torch.is_grad_enabled() else self.product(input)
        return product

    def product(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight, self.bias)


class _Product(torch.autograd.Function):
    """Keeps nothing for the backward pass, where the weights are made once more."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, layer: FourBitLinear) -> Tensor:
        ctx.layer = layer
        return layer.product(input)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient @ ctx.layer.weight, None


def quantise(model: PreTrainedModel, device: torch.device) -> None:
    """Keep the linear layers of a model but its output layer in 4 bits, and move it to `device`, a layer at a time.

    Raises UserError without bitsandbytes, and for weights that have been in 4 bits and were trained since.
    """
    try:
        import_bitsandbytes()
    except ImportError:
        raise MissingExtra('model.lora.base: "4bit"', install_hint("bitsandbytes")) from None
    if hasattr(model.config, ROUNDED_TO):
        raise UserError(
            'model.lora.base: "4bit" would round away what adapters on a 4-bit base have learned, and '
            f"{model.name_or_path} is of such a run: give that run more steps (--resume --run.steps), or leave "
            "model.lora.base out"
        )
    setattr(model.config, ROUNDED_TO, "nf4")
    head = model.get_output_embeddings()
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and module is not head:
            model.set_submodule(name, FourBitLinear(module, device))
    model.to(device)  # type: ignore[arg-type]
