"""What one response got from the loss, token by token, as JSON can hold it."""

import math
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from fipo.objective.events import token_marks
from fipo.objective.output import LossOutput
from fipo.objective.types import TokenFields


@torch.no_grad()
def token_credit(out: LossOutput, row: int) -> dict[str, Any]:
    """The credit of response number `row` of a batch; lists are over its loss tokens, n of them.

    log_ratio, future_kl, influence_weight   n numbers each, to six significant digits; None for what is not finite
    marks      {name: which of the n tokens}, without the names that no token has; see the rows of MARKS
    left_out   why nothing of it is in the loss: "masked" (no loss tokens), "filtered" (more than
               max_dual_clipped_tokens dual-clipped ones); None if it is in the loss
    Shapes: `out` is of [B, T], row < B.

    >>> from fipo.objective import FIPOConfig, LossInputs, policy_loss
    >>> inputs = LossInputs(logprobs=[[-1.0, -2.0]], old_logprobs=[[-1.0, -2.5]], advantages=[1.0], loss_mask=[[1, 0]])
    >>> token_credit(policy_loss(inputs, FIPOConfig.release_32b()), row=0)["influence_weight"]
    [1.0]
    """
    mask = out.loss_mask[row]
    own = TokenFields(**{field.name: _of(getattr(out.fields, field.name), row, mask) for field in fields(TokenFields)})
    flags = token_marks(own, out.config)
    left_out = None if bool(out.kept_rows[row]) else "filtered"
    return {
        "left_out": left_out if bool(mask.any()) else "masked",
        "log_ratio": _short(own.log_ratio.tolist()),
        "future_kl": _short(own.future_kl.tolist()),
        "influence_weight": _short(own.influence_weights.tolist()),
        "marks": {name: flag.nonzero()[:, 0].tolist() for name, flag in flags.items() if bool(flag.any())},
    }


def _short(values: list[float]) -> list[float | None]:
    return [float(f"{value:.6g}") if math.isfinite(value) else None for value in values]


def _of(values: Any, row: int, mask: Tensor) -> Any:
    """A row's tokens of a field; None stays None."""
    return None if values is None else values[row][mask]
