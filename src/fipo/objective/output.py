"""What comes out of the loss."""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from fipo.objective.config import FIPOConfig
from fipo.objective.diagnostics import loss_metrics
from fipo.objective.metrics import Metrics
from fipo.objective.types import RowLosses, TokenFields


@dataclass(frozen=True, kw_only=True, eq=False)
class LossOutput:
    """The loss, and on demand what it was made of. Only `loss` carries a graph.

    The per-token tensors are those of `TokenFields`, and `kept`. After the fused kernels they do not exist yet:
    the first look computes them with the reference.
    Shapes: [B, T] of what is per token, [B] of what is per response, [] of the loss.

    >>> from fipo.objective import LossInputs, policy_loss
    >>> inputs = LossInputs(logprobs=[[-1.0, -2.0]], old_logprobs=[[-1.0, -2.5]], advantages=[1.0], loss_mask=[[1, 1]])
    >>> out = policy_loss(inputs, FIPOConfig(half_life=1.0, influence_clip=(0.5, 2.0)))
    >>> out.log_ratio, out.future_kl, out.influence_weights
    (tensor([[0.0000, 0.5000]]), tensor([[0.2500, 0.5000]]), tensor([[1.2840, 1.6487]]))
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
    def dual_clipped(self) -> Tensor | None:
        return self.fields.dual_clipped

    @property
    def advantages(self) -> Tensor:
        return self.fields.advantages

    def metrics(self) -> Metrics:
        """Statistics over the loss tokens that merge over micro-batches; see `loss_metrics`.

        `metrics().values()` are plain numbers, to be logged.
        """
        return Metrics(
            loss_metrics(
                self.rows, self.kept_rows, total=self.total, weight=self.weight, reference_kl=self.reference_kl
            )
        )
