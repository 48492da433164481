"""Attention over sequences that stand one after the other in one row, each seeing itself alone."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

ATTENTION = "fipo_packed"


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each sequence. query [1, H, S, D], key and value [1, H_kv, S, D] -> [1, S, H, D].

    In half precision on CUDA by flash attention; elsewhere one sequence after the other.
    """
    starts, longest = kwargs["cu_seq_lens_q"], kwargs["max_length_q"]
    if query.is_cuda and query.element_size() == 2:
        return _flash(query, key, value, starts, longest, scaling)[None], None
    lengths = starts.diff().tolist()
    parts = [
        F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)
        for q, k, v in zip(*(x.split(lengths, dim=2) for x in (query, key, value)), strict=True)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _flash(query: Tensor, key: Tensor, value: Tensor, starts: Tensor, longest: int, scaling: float | None) -> Tensor:
    """[S, H, D]. Needs torch 2.11: the layout's trial finds out and goes back to padded rows."""
    from torch.nn.attention.varlen import varlen_attn

    options: Any = {"scale": scaling, "window_size": (-1, 0)}
    if "enable_gqa" in inspect.signature(varlen_attn).parameters:  # torch 2.12
        options["enable_gqa"] = True
    else:
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    mixed: Any = varlen_attn(q, k, v, starts, starts, longest, longest, **options)
    return mixed


AttentionInterface.register(ATTENTION, packed_attention)
AttentionMaskInterface.register(ATTENTION, lambda *_, **__: None)  # the sequences' limits come with the call


@contextmanager
def attending_within_sequences(model: PreTrainedModel, *, on: bool) -> Iterator[None]:
    """Inside, the model's attention is `packed_attention`; a backward pass that recomputes activations needs it too."""
    before = model.config._attn_implementation
    if not on or before == ATTENTION:
        yield
        return
    model.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def forward(module: torch.nn.Module, model: PreTrainedModel, input_ids: Tensor, lengths: Sequence[int] | None) -> Any:
    """What `module`, the model or its decoder, makes of sequences of these lengths in one row, or of rows if None."""
    sequences = sequence_arguments(lengths, model.device) if lengths else {}
    with attending_within_sequences(model, on=lengths is not None):
        return module(input_ids=input_ids, use_cache=False, **sequences)


def sequence_arguments(lengths: Sequence[int], device: torch.device) -> dict[str, Any]:
    """What to call a model with besides one row of tokens, so that it sees sequences of these lengths in it."""
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    starts = torch.tensor([0, *lengths]).cumsum(0).to(device, torch.int32)
    return {
        "position_ids": positions.to(device),
        **dict.fromkeys(("cu_seq_lens_q", "cu_seq_lens_k"), starts),
        **dict.fromkeys(("max_length_q", "max_length_k"), max(lengths)),
    }
