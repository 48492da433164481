"""AdamW with float32 weights and state, whatever the precision of the model."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel


class MasterAdamW(torch.optim.AdamW):
    """AdamW over float32 master weights: a model in half precision is rounded from them after each step.

    Where a parameter is in half precision its gradient moves to the master as it comes out of the backward pass, so
    gradients add up in float32 too. Of other parameters the master is the parameter itself.
    """

    def __init__(self, model: PreTrainedModel, *, lr: float, weight_decay: float) -> None:
        self.masters: dict[str, Tensor] = {}
        self.rounded: list[tuple[Tensor, Tensor]] = []  # (parameter, its master)
        for name, parameter in model.named_parameters():
            if parameter.element_size() >= 4:
                self.masters[name] = parameter
                continue
            master = parameter.detach().float()
            parameter.register_post_accumulate_grad_hook(partial(_hand_over, master))
            self.masters[name] = master
            self.rounded.append((parameter, master))
        super().__init__(list(self.masters.values()), lr=lr, weight_decay=weight_decay)

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        result = super().step(closure)
        for parameter, master in self.rounded:
            parameter.copy_(master)
        return result

    def state_tensors(self) -> dict[str, Tensor]:
        """AdamW's state and the masters as `parameter|field` tensors."""
        fields = {
            f"{name}|{field}": tensor
            for name, master in self.masters.items()
            for field, tensor in self.state.get(master, {}).items()
        }
        own = {id(master) for _, master in self.rounded}
        return fields | {f"{name}|master": master for name, master in self.masters.items() if id(master) in own}

    @torch.no_grad()
    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """What `state_tensors` gave, also of a model in another precision; the model's weights are in place already."""
        self.state.clear()
        for parameter, master in self.rounded:
            master.copy_(parameter)
        for key, tensor in tensors.items():
            name, field = key.rsplit("|", 1)
            master = self.masters[name]
            if field == "master":
                master.copy_(tensor)
            else:
                self.state[master][field] = tensor.to("cpu" if field == "step" else master.device)


def _hand_over(master: Tensor, parameter: Tensor) -> None:
    gradient, parameter.grad = parameter.grad, None
    if gradient is not None:
        master.grad = gradient.float() if master.grad is None else master.grad.add_(gradient)
