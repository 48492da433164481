"""What goes into the loss, and what its parts hand to each other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

ArrayLike: TypeAlias = Tensor | Any  # a tensor, a numpy array, or lists of numbers: what torch.as_tensor takes


def as_mask(given: ArrayLike) -> Tensor:
    """A mask of 0 and 1 as one of bool. Raises ValueError for other values."""
    mask = torch.as_tensor(given)
    if mask.dtype == torch.bool:
        return mask
    whole = mask.bool()
    if not torch.equal(whole.to(mask.dtype), mask):
        odd = mask[whole.to(mask.dtype) != mask][0].item()
        raise ValueError(f"loss_mask must be of bool, or of 0 and 1, got {odd:g}")
    return whole


@dataclass(frozen=True, kw_only=True, eq=False)
class LossInputs:
    """One batch of B responses of up to T tokens. Shapes: [B, T]; advantages may be [B].

    What stands where loss_mask is False is never read: it may be NaN or inf.
    Only logprobs and entropies carry a gradient; the others are constants.
    What is optional is left out of the loss where it is None. Each may be given as a tensor, a numpy array or lists,
    and is a tensor afterwards, on the device of logprobs; loss_mask may be of bool, or of 0 and 1.
    Errors: ValueError when a shape or dtype does not fit.

    >>> inputs = LossInputs(logprobs=[[-1.0, -2.0]], old_logprobs=[[-1.0, -2.0]], advantages=[1], loss_mask=[[1, 0]])
    >>> inputs.loss_mask
    tensor([[ True, False]])
    """

    logprobs: Tensor  # [B, T] log-probability of each token under the policy being trained
    old_logprobs: Tensor  # [B, T] the same by the trainer's own engine before this update
    advantages: Tensor  # [B, T] or [B], see group_advantages
    loss_mask: Tensor  # [B, T] bool, True = trained token
    importance_weights: Tensor | None = None  # [B, T] multiplies each token's loss, see truncated_importance_weights
    reference_logprobs: Tensor | None = None  # [B, T] log-probability under the frozen reference, see kl_penalty
    entropies: Tensor | None = None  # [B, T] nats, of the distribution that each token came from, for entropy_coef

    def __post_init__(self) -> None:
        self._as_tensors()
        shape = list(self.logprobs.shape)
        if len(shape) != 2:
            raise ValueError(f"logprobs must have shape [B, T], got {shape}")
        for name in ("old_logprobs", "loss_mask", "importance_weights", "reference_logprobs", "entropies"):
            tensor = getattr(self, name)
            if tensor is not None and list(tensor.shape) != shape:
                raise ValueError(f"logprobs and {name} must have the same shape, got {shape} and {list(tensor.shape)}")
        if list(self.advantages.shape) not in (shape, shape[:1]):
            raise ValueError(
                f"advantages must have shape {shape} or {shape[:1]}, as logprobs has, got {list(self.advantages.shape)}"
            )
        for name in ("logprobs", "old_logprobs", "advantages", "importance_weights", "reference_logprobs", "entropies"):
            tensor = getattr(self, name)
            if tensor is not None and not tensor.dtype.is_floating_point:
                raise ValueError(f"{name} must be floating point, got {tensor.dtype}")

    def _as_tensors(self) -> None:
        """What was given in another form becomes a tensor: numbers of floating point, and a mask of bool."""
        for name, value in vars(self).items():
            if value is None:
                continue
            if not isinstance(value, Tensor):
                value = torch.as_tensor(value)
                if name != "loss_mask" and not value.dtype.is_floating_point:
                    value = value.to(torch.get_default_dtype())
                if name != "logprobs":
                    value = value.to(self.logprobs.device)
                object.__setattr__(self, name, value)
        object.__setattr__(self, "loss_mask", as_mask(self.loss_mask))

    def detached(self) -> "LossInputs":
        """The same without a graph."""
        tensors = {name: tensor for name, tensor in vars(self).items() if tensor is not None}
        return LossInputs(**{name: tensor.detach() for name, tensor in tensors.items()})


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenFields:
    """What the loss was made of, token by token, without a graph."""

    log_ratio: Tensor  # [B, T] logprobs - old_logprobs, clamped to +-20, 0 off the mask
    ratio: Tensor  # [B, T] exp(log_ratio)
    future_kl: Tensor  # [B, T] by the definition, also when `influence` was given
    influence_weights: Tensor  # [B, T] f as used
    advantages: Tensor  # [B, T] 0 off the mask
    clipped_high: Tensor | None  # [B, T] bool, see Surrogate.held_back; None: the surrogate has no such bound
    clipped_low: Tensor | None
    dual_clipped: Tensor | None  # [B, T] bool, loss tokens that the dual clip stopped; None: there is none


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A quantity over the loss tokens."""

    total: Tensor  # []
    squares: Tensor  # [] sum of (x - mean)^2
    smallest: Tensor  # [] inf over nothing
    largest: Tensor  # [] -inf over nothing


@dataclass(frozen=True, kw_only=True)
class Ratios:
    """The distribution of log_ratio over the loss tokens of one sign of the advantage."""

    counts: Tensor  # [RATIO_BINS] int64
    smallest: Tensor  # [] inf over nothing
    largest: Tensor  # [] -inf over nothing


@dataclass(frozen=True, kw_only=True)
class TokenSums:
    """All that the metrics need of the tokens, on the device. Sums and extremes are float64, where it has that."""

    tokens: Tensor  # [] int64, loss tokens
    events: Mapping[str, Tensor]  # [] int64 each, how often each of EVENTS happened
    log_ratio: Tensor  # [] sum
    weights: Spread  # f as used
    raw_weights: Spread  # exp(future_kl) before any bound
    positive: Ratios  # A > 0
    negative: Ratios  # A < 0


@dataclass(frozen=True, kw_only=True, eq=False)
class RowLosses:
    """The token losses summed over each sequence, before the filter and the aggregation."""

    loss: Tensor  # [B] sum of l over the loss tokens, with the graph
    tokens: Tensor  # [B] int64, loss tokens
    dual_clipped: Tensor  # [B] int64, loss tokens that the dual clip stopped; 0 without one
    fields: Callable[[], TokenFields]
    sums: Callable[[], TokenSums]
