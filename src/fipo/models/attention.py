"""Whether attention functions of ours can stand in for a model's own, and whether what is computed is the model."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from fipo.models.memory import out_of_memory

FLOOR = {torch.float64: 1e-6, torch.float32: 1e-3}  # of a mean error in nats; of half precisions 0.1


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One sequence of a trial beside a forward pass of the model over that sequence alone."""

    tokens: int  # of the sequence
    error: float  # mean difference of its logits or log-probs, nats
    largest: float  # logit; rounding alone makes an error of some units in its last place


def obstacle(model: PreTrainedModel, trial: Callable[[], Iterable[Compared]]) -> str | None:
    """Why a way to compute with a model is not the model, by a trial: by its worst sequence. None if it is.

    Running out of memory passes through.
    """
    try:
        compared = list(trial())
    except Exception as failure:
        if out_of_memory(failure):
            raise
        return f"a trial failed with {type(failure).__name__}: {' '.join(str(failure).split())!s:.100}"
    for one in compared:
        allowed = max(FLOOR.get(model.dtype, 0.1), 4 * torch.finfo(model.dtype).eps * one.largest)
        if not one.error < allowed:
            return (
                f"in a trial with {one.tokens} tokens it was off by {one.error:.2g}, "
                f"and rounding explains {allowed:.2g}"
            )
    return None


def attend(query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None, scale: float | None) -> Tensor:
    """softmax(scale q k^T) v of query [B, H, T, D], key and value [B, H_kv, S, D], which heads may share.

    Causal without a mask [T, S]. On CUDA keys and values are repeated first: of its kernels flash attention alone knows
    shared ones, and torch would make all T x S scores where that cannot be used (float32, a mask, an older GPU).
    """
    shared = query.shape[1] // key.shape[1]
    if query.is_cuda and shared > 1:
        key, value = (x.repeat_interleave(shared, dim=1) for x in (key, value))
    return F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scale, enable_gqa=not query.is_cuda
    )


def special_attention(model: PreTrainedModel) -> str | None:
    """What kind of attention a model has, if it is not plain causal attention behind transformers' interface."""
    config = model.config.get_text_config(decoder=True)
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"]) - {"full_attention"}
    if not model._supports_attention_backend:
        return "its attention is not behind transformers' interface"
    if not hasattr(config, "layer_types") and getattr(config, "sliding_window", None):
        return "its attention has a sliding window"
    if kinds:
        return f"it has layers of {', '.join(sorted(kinds))}"
    if getattr(config, "attn_logit_softcapping", None):
        return "it caps the logits of its attention"
    return scaled_in_the_row(model)


def scaled_in_the_row(model: PreTrainedModel) -> str | None:
    """Why rows of a model must begin with their sequence, if it scales attention by a token's place in its row.

    Such a layer counts the tokens before it, padding and other sequences too, and not the positions that it is given.
    """
    config = model.config.get_text_config(decoder=True)
    tuned = getattr(config, "attn_temperature_tuning", None) and not all(getattr(config, "no_rope_layers", None) or [0])
    if tuned or getattr(config, "log_scaling_n_floor", None):  # of Llama 4, of Inkling
        return "it scales its attention by a token's place in the row"
    return None
