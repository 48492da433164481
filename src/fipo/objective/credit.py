"""What one response got from the loss, token by token, as JSON can hold it."""

import math
from dataclasses import fields
from typing import Any

import torch

from fipo.objective.diagnostics import token_events
from fipo.objective.types import LossOutput, TokenFields

MARKS = {  # names of events, as `loss_metrics` counts them
    "clipped_high": "policy/clip_fraction_high",
    "clipped_low": "policy/clip_fraction_low",
    "dual_clipped": "policy/dual_clip_fraction",
    "weight_clipped_high": "fipo/influence_weight/clipped_high",
    "weight_clipped_low": "fipo/influence_weight/clipped_low",
    "safety_capped": "fipo/safety_capped",
}


@torch.no_grad()
def token_credit(out: LossOutput, row: int) -> dict[str, Any]:
    """The credit of response number `row` of a batch; lists are over its loss tokens, n of them.

    log_ratio, future_kl, influence_weight   n numbers each, to six significant digits; None for what is not finite
    marks      {name: which of the n tokens}, without the names that no token has:
               clipped_high    A > 0 and ratio > 1 + clip_high: the clip held the update back
               clipped_low     A < 0 and ratio < 1 - clip_low: likewise
               dual_clipped    A < 0 and ratio > dual_clip: the dual clip stopped it
               not_summed      ratio > dual_clip: no future KL counts the token's shift
               weight_clipped_high, weight_clipped_low   exp(future_kl) outside influence_clip: f is the bound
               safety_capped   A < 0 and ratio > safety_threshold: the safety rule changed f
    left_out   why nothing of it is in the loss: "masked" (no loss tokens), "filtered" (more than
               max_dual_clipped_tokens dual-clipped ones); None if it is in the loss
    """
    mask, cfg = out.loss_mask[row], out.config
    own = TokenFields(**{field.name: getattr(out.fields, field.name)[row][mask] for field in fields(TokenFields)})
    events = token_events(own, cfg)
    flags = {name: events[event] for name, event in MARKS.items()}
    flags["not_summed"] = own.log_ratio > math.log(cfg.dual_clip)
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
