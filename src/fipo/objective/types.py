"""What goes into the loss and what comes out of it."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from fipo.objective.config import FIPOConfig
from fipo.objective.diagnostics import TokenSums, loss_metrics
from fipo.objective.metrics import Metric


@dataclass(frozen=True, kw_only=True, eq=False)
class LossInputs:
    """One batch of B responses of up to T tokens.

    What stands where loss_mask is False is never read: it may be NaN or inf.
    Only logprobs carries a gradient; the others are constants.
    What is optional is left out of the loss where it is None.
    Errors: ValueError when a shape or dtype does not fit.
    """

    logprobs: Tensor  # [B, T] log-probability of each token under the policy being trained
    old_logprobs: Tensor  # [B, T] the same by the trainer's own engine before this update
    advantages: Tensor  # [B, T] or [B], see group_advantages
    loss_mask: Tensor  # [B, T] bool, True = trained token
    importance_weights: Tensor | None = None  # [B, T] multiplies each token's loss, see truncated_importance_weights
    reference_logprobs: Tensor | None = None  # [B, T] log-probability under the frozen reference, see kl_penalty

    def __post_init__(self) -> None:
        shape = list(self.logprobs.shape)
        if len(shape) != 2:
            raise ValueError(f"logprobs must have shape [B, T], got {shape}")
        for name in ("old_logprobs", "loss_mask", "importance_weights", "reference_logprobs"):
            tensor = getattr(self, name)
            if tensor is not None and list(tensor.shape) != shape:
                raise ValueError(f"logprobs and {name} must have the same shape, got {shape} and {list(tensor.shape)}")
        if list(self.advantages.shape) not in (shape, shape[:1]):
            raise ValueError(
                f"advantages must have shape {shape} or {shape[:1]}, as logprobs has, got {list(self.advantages.shape)}"
            )
        for name in ("logprobs", "old_logprobs", "advantages", "importance_weights", "reference_logprobs"):
            tensor = getattr(self, name)
            if tensor is not None and not tensor.dtype.is_floating_point:
                raise ValueError(f"{name} must be floating point, got {tensor.dtype}")
        if self.loss_mask.dtype != torch.bool:
            raise ValueError(f"loss_mask must be bool, got {self.loss_mask.dtype}")


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenFields:
    """What the loss was made of, token by token, without a graph."""

    log_ratio: Tensor  # [B, T] logprobs - old_logprobs, clamped to +-20, 0 off the mask
    ratio: Tensor  # [B, T] exp(log_ratio)
    future_kl: Tensor  # [B, T] by the definition, also when `influence` was given
    influence_weights: Tensor  # [B, T] f as used
    dual_clipped: Tensor  # [B, T] bool, loss tokens that the dual clip stopped
    advantages: Tensor  # [B, T] 0 off the mask


@dataclass(frozen=True, kw_only=True, eq=False)
class RowLosses:
    """The token losses summed over each sequence, before the filter and the aggregation."""

    loss: Tensor  # [B] sum of l over the loss tokens, with the graph
    tokens: Tensor  # [B] int64, loss tokens
    dual_clipped: Tensor  # [B] int64, loss tokens that the dual clip stopped
    fields: Callable[[], TokenFields]
    sums: Callable[[], TokenSums]


@dataclass(frozen=True, kw_only=True, eq=False)
class LossOutput:
    """The loss, and on demand what it was made of. Only `loss` carries a graph.

    The per-token tensors are those of `TokenFields`, and `kept`. After the fused kernels they do not exist yet:
    the first look computes them with the reference.
    """

    loss: Tensor  # [] total / denominator, to call backward on
    total: Tensor  # [] the un-normalised sum
    weight: Tensor  # [] int64, this batch's part of the natural denominator (see policy_loss)
    kept_tokens: Tensor  # [] int64, loss tokens of the sequences that the filter kept
    kept_rows: Tensor  # [B] bool, the filter kept the sequence
    reference_kl: Tensor | None  # [] sum of kl_penalty over the loss tokens; None without a reference
    loss_mask: Tensor  # [B, T] bool
    config: FIPOConfig
    rows: RowLosses

    @cached_property
    def kept(self) -> Tensor:
        """[B, T] bool, loss tokens of the sequences that the filter kept."""
        return self.loss_mask & self.kept_rows[:, None]

    @cached_property
    def fields(self) -> TokenFields:
        return self.rows.fields()

    @property
    def log_ratio(self) -> Tensor:
        return self.fields.log_ratio

    @property
    def ratio(self) -> Tensor:
        return self.fields.ratio

    @property
    def future_kl(self) -> Tensor:
        return self.fields.future_kl

    @property
    def influence_weights(self) -> Tensor:
        return self.fields.influence_weights

    @property
    def dual_clipped(self) -> Tensor:
        return self.fields.dual_clipped

    @property
    def advantages(self) -> Tensor:
        return self.fields.advantages

    def metrics(self) -> dict[str, Metric]:
        """Statistics over the loss tokens that merge over micro-batches; see `loss_metrics`."""
        return loss_metrics(self)
