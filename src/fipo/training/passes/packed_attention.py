"""Attention over a row of segments, each seeing its ancestors and itself; see segments.py."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

from fipo.models.attention import attend
from fipo.training.passes.segments import Segment, Span, spans_of

ATTENTION = "fipo_packed"
# Queries of a segment with a past that are attended to at once. Their mask is a tensor, and they read all keys up to
# the last one's: of a long response few at a time are cheaper, on a GPU more keep it busy.
BLOCK = {"cpu": 128, "cuda": 512}


class Geometry:
    """Where the segments of a row stand, for every layer of a forward pass."""

    def __init__(self, segments: Sequence[Segment], device: torch.device) -> None:
        self.spans = spans_of(segments)
        self.starts = [span.start for span in self.spans]
        self.lengths = [span.end - span.start for span in self.spans]
        self.device = device
        self.block = BLOCK[device.type]
        self._band_made: Tensor | None = None

    def positions(self) -> Tensor:
        """[1, S] of each token in its sequence."""
        parts = [torch.arange(span.past, span.past + span.end - span.start) for span in self.spans]
        return _moved(torch.cat(parts)[None], self.device)

    @cached_property
    def flash(self) -> dict[str, Any]:
        """The keys that each segment sees, as places in the row (None: its own), and what `varlen_attn` asks for."""
        seen = [torch.arange(start, end) for span in self.spans for start, end in span.seen]
        keys = [span.past + length for span, length in zip(self.spans, self.lengths, strict=True)]
        return {
            "places": _moved(torch.cat(seen), self.device) if any(span.past for span in self.spans) else None,
            "cu_seq_q": _moved(torch.tensor([0, *self.lengths]).cumsum(0).int(), self.device),
            "cu_seq_k": _moved(torch.tensor([0, *keys]).cumsum(0).int(), self.device),
            "max_q": max(self.lengths),
            "max_k": max(keys),
        }

    def mask(self, past: int, queries: int, dtype: torch.dtype) -> Tensor:
        """[queries, past + queries] of up to `block` queries after `past` tokens: 0 for what each sees, else -inf."""
        first = self._band(dtype).shape[1] - self.block - past
        return self._band(dtype)[:queries, first : first + past + queries]

    def _band(self, dtype: torch.dtype) -> Tensor:
        """All masks: each is a window of it."""
        if self._band_made is None:
            furthest = max(span.past + span.end - span.start for span in self.spans)
            hidden = torch.ones(self.block, furthest + self.block, dtype=torch.bool, device=self.device)
            hidden = hidden.triu(furthest + 1)
            self._band_made = torch.zeros(hidden.shape, dtype=dtype, device=self.device).masked_fill_(
                hidden, float("-inf")
            )
        return self._band_made


def _moved(places: Tensor, device: torch.device) -> Tensor:
    """From the host to the device, without waiting for what the device still has to do."""
    return places.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else places


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
    queries, keys, values = (
        dict(zip(geometry.starts, x.split(geometry.lengths, dim=2), strict=True)) for x in (query, key, value)
    )
    mixed = [
        part.transpose(1, 2)
        for span in geometry.spans
        for part in _attended(queries[span.start], _seen(keys, span), _seen(values, span), span, geometry, scaling)
    ]
    return torch.cat(mixed, dim=1), None


def _seen(parts: dict[int, Tensor], span: Span) -> Tensor:
    """[1, H_kv, past + n, D] of what a segment sees, from the parts of the row by where they begin."""
    seen = [parts[start] for start, _ in span.seen]
    return seen[0] if len(seen) == 1 else torch.cat(seen, dim=2)


def _attended(
    query: Tensor, key: Tensor, value: Tensor, span: Span, geometry: Geometry, scaling: float | None
) -> Iterator[Tensor]:
    """[1, H, n, D] for one run of queries of a segment after the other."""
    if not span.past:
        yield attend(query, key, value, mask=None, scale=scaling)
        return
    for i, block in enumerate(query.split(geometry.block, dim=2)):
        past = span.past + i * geometry.block
        mask = geometry.mask(past, block.shape[2], query.dtype)
        seen = mask.shape[1]
        yield attend(block, key[:, :, :seen], value[:, :, :seen], mask=mask, scale=scaling)


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
    # transformers makes a mask of positions that begin anew, for which it would wait for the device: it is given one.
    nothing = torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=device)
    return {"position_ids": geometry.positions(), "geometry": geometry, "attention_mask": nothing}
