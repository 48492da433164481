"""Attention over a row of segments, each seeing its ancestors and itself; see segments.py."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

from fipo.training.passes.segments import Segment, Span, spans_of

ATTENTION = "fipo_packed"
BLOCK = 512  # queries of a segment with a past that are attended to at once: their mask is a tensor


class Geometry:
    """Where the segments of a row stand, for every layer of a forward pass."""

    def __init__(self, segments: Sequence[Segment], device: torch.device) -> None:
        self.spans = spans_of(segments)
        self.device = device

    def positions(self) -> Tensor:
        """[1, S] of each token in its sequence."""
        parts = [torch.arange(span.past, span.past + span.end - span.start) for span in self.spans]
        return torch.cat(parts)[None].to(self.device)

    @cached_property
    def flash(self) -> dict[str, Any]:
        """The keys that each segment sees, as places in the row (None: its own), and what `varlen_attn` asks for."""
        seen = [torch.arange(start, end) for span in self.spans for start, end in span.seen]
        queries = [span.end - span.start for span in self.spans]
        keys = [span.past + length for span, length in zip(self.spans, queries, strict=True)]
        return {
            "places": torch.cat(seen).to(self.device) if any(span.past for span in self.spans) else None,
            "cu_seq_q": torch.tensor([0, *queries]).cumsum(0).to(self.device, torch.int32),
            "cu_seq_k": torch.tensor([0, *keys]).cumsum(0).to(self.device, torch.int32),
            "max_q": max(queries),
            "max_k": max(keys),
        }


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    *,
    geometry: Geometry,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each segment and to its ancestors, query [1, H, S, D], key and value [1, H_kv, S, D].

    Gives [1, S, H, D]. In half precision on CUDA by flash attention; elsewhere one segment after the other.
    """
    if query.is_cuda and query.element_size() == 2:
        return _flash(query, key, value, geometry, scaling)[None], None
    parts = [part for span in geometry.spans for part in _attended(query, key, value, span, scaling)]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None


def _attended(query: Tensor, key: Tensor, value: Tensor, span: Span, scaling: float | None) -> Iterator[Tensor]:
    """[1, H, n, D] for one run of queries of a segment after the other."""
    q = query[:, :, span.start : span.end]
    k, v = (torch.cat([x[:, :, start:end] for start, end in span.seen], dim=2) for x in (key, value))
    if not span.past:
        yield F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=True)
        return
    for i, block in enumerate(q.split(BLOCK, dim=2)):
        first = span.past + i * BLOCK
        seen = first + block.shape[2]
        mask = torch.ones(block.shape[2], seen, dtype=torch.bool, device=q.device).tril(first)
        yield F.scaled_dot_product_attention(
            block, k[:, :, :seen], v[:, :, :seen], attn_mask=mask, scale=scaling, enable_gqa=True
        )


def _flash(query: Tensor, key: Tensor, value: Tensor, geometry: Geometry, scaling: float | None) -> Tensor:
    """[S, H, D]. Needs torch 2.11: the layout's trial finds out and goes back to padded rows."""
    from torch.nn.attention.varlen import varlen_attn

    row = geometry.flash
    options: Any = {"scale": scaling, "window_size": (-1, 0)}
    if "enable_gqa" in inspect.signature(varlen_attn).parameters:  # torch 2.12
        options["enable_gqa"] = True
    else:
        key, value = (x.repeat_interleave(query.shape[1] // x.shape[1], dim=1) for x in (key, value))
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    if row["places"] is not None:
        k, v = k[row["places"]], v[row["places"]]
    mixed: Any = varlen_attn(
        q,
        k,
        v,
        row["cu_seq_q"],
        row["cu_seq_k"],
        row["max_q"],
        row["max_k"],
        **options,
    )
    return mixed


AttentionInterface.register(ATTENTION, packed_attention)
AttentionMaskInterface.register(ATTENTION, lambda *_, **__: None)  # where the segments stand comes with the call


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


def forward(module: torch.nn.Module, model: PreTrainedModel, input_ids: Tensor, row: Sequence[Segment] | None) -> Any:
    """What `module`, the model or its decoder, makes of a row of these segments, or of a batch of rows if None."""
    with attending_within_sequences(model, on=row is not None):
        return module(input_ids=input_ids, use_cache=False, **(row_arguments(row, model.device) if row else {}))


def row_arguments(row: Sequence[Segment], device: torch.device) -> dict[str, Any]:
    """What to call a model with besides one row of tokens, so that each segment sees its ancestors and itself."""
    geometry = Geometry(row, device)
    return {"position_ids": geometry.positions(), "geometry": geometry}
