"""AdamW with float32 weights, whatever the precision of the model."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fipo.errors import UserError
from fipo.extras import import_bitsandbytes, install_hint

Kind = Literal["adamw", "adamw_8bit", "paged_adamw_8bit"]


class MasterAdamW:
    """AdamW over float32 master weights: a model in half precision is rounded from them after each step.

    Where a parameter is in half precision its gradient moves to the master as it comes out of the backward pass, so
    gradients add up in float32 too. Of other parameters the master is the parameter itself. Frozen ones have none.
    """

    def __init__(self, model: PreTrainedModel, *, lr: float, weight_decay: float, kind: Kind = "adamw") -> None:
        """Raises UserError if bitsandbytes is missing where `kind` needs it, or for a paged state without CUDA."""
        self.masters: dict[str, Tensor] = {}
        self.rounded: list[tuple[Tensor, Tensor]] = []  # (parameter, its master)
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            if parameter.element_size() >= 4:
                self.masters[name] = parameter
                continue
            master = parameter.detach().float()
            parameter.register_post_accumulate_grad_hook(partial(_hand_over, master))
            self.masters[name] = master
            self.rounded.append((parameter, master))
        self._adamw = _adamw(kind, list(self.masters.values()), lr=lr, weight_decay=weight_decay)
        self.param_groups: list[dict[str, Any]] = self._adamw.param_groups
        self.state: dict[Tensor, Any] = self._adamw.state
        if kind == "adamw":
            self._take_memory()

    def _take_memory(self) -> None:
        """The state of before the first step, which torch makes in that step: rather want of memory shows at once."""
        for master in self.masters.values():
            self.state[master] = {
                "step": torch.zeros((), device=master.device),
                "exp_avg": torch.zeros_like(master),
                "exp_avg_sq": torch.zeros_like(master),
            }

    def zero_grad(self) -> None:
        self._adamw.zero_grad()

    @torch.no_grad()
    def step(self) -> None:
        self._adamw.step()
        if self.rounded:
            parameters, masters = zip(*self.rounded, strict=True)
            torch._foreach_copy_(parameters, masters)

    def state_tensors(self) -> dict[str, Tensor]:
        """AdamW's state and the masters as `parameter|field` tensors."""
        fields = {
            f"{name}|{field}": torch.as_tensor(value)
            for name, master in self.masters.items()
            for field, value in self.state.get(master, {}).items()
            if not field.startswith("qmap")  # what the 256 codes of an 8-bit state stand for: a constant
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
                self._take(master, field, tensor)

    def _take(self, master: Tensor, field: str, tensor: Tensor) -> None:
        """One field of AdamW's state. bitsandbytes makes the place for it, which may be in memory that it pages."""
        begin = getattr(self._adamw, "init_state", None)
        if begin is None:
            self.state[master][field] = tensor.to(master.device)  # `step` too: it is fused
            return
        if master not in self.state:
            index = next(i for i, other in enumerate(self.masters.values()) if other is master)
            begin(self.param_groups[0], master, 0, index)
        if field == "step":
            self.state[master][field] = int(tensor)
        else:
            self.state[master][field].copy_(tensor)


def _adamw(kind: Kind, masters: Sequence[Tensor], *, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    if kind == "adamw":
        return torch.optim.AdamW(masters, lr=lr, weight_decay=weight_decay, fused=True)
    paged = kind == "paged_adamw_8bit"
    if paged and masters[0].device.type != "cuda":
        raise UserError(
            f"update.optimizer: {kind!r} moves its state between the memories of a CUDA device and the host: "
            f'run.device must be "cuda", got {masters[0].device.type!r} ("adamw_8bit" runs there)'
        )
    try:
        import_bitsandbytes()
        from bitsandbytes.optim import AdamW8bit
    except ImportError:
        raise UserError(f"update.optimizer: {kind!r} needs the extra: {install_hint('bitsandbytes')}") from None
    optimizer: torch.optim.Optimizer = AdamW8bit(masters, lr=lr, weight_decay=weight_decay, is_paged=paged)
    return optimizer


def _hand_over(master: Tensor, parameter: Tensor) -> None:
    gradient, parameter.grad = parameter.grad, None
    if gradient is not None:
        master.grad = gradient.float() if master.grad is None else master.grad.add_(gradient)
