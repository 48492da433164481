"""A policy computed in float32 without a second copy of it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from transformers import PreTrainedModel


@contextmanager
def in_float32(model: PreTrainedModel, masters: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, a model computes in float32 and without TF32; its trained weights are the float32 `masters`, by name.

    Frozen weights are widened while an operation reads them. For forward passes: there are no gradients inside.
    """
    named = dict(model.named_parameters())
    of = {id(named[name]): master for name, master in masters.items()}
    places = [
        (module, name, parameter)
        for module in model.modules()
        for name, parameter in module._parameters.items()
        if parameter is not None and id(parameter) in of
    ]
    tf32 = torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = False
        for module, name, parameter in places:
            module._parameters[name] = of[id(parameter)]  # type: ignore[assignment]
        with torch.no_grad(), _Widening():
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        for module, name, parameter in places:
            module._parameters[name] = parameter


class _Widening(TorchDispatchMode):
    """Every operation sees its half-precision arguments in float32."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func._schema.is_mutable:  # what an operation writes to stays what it is
            args, kwargs = tree_map_only(Tensor, _widened, (args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor
