"""A key-value cache of fixed slots, each sequence at a position of its own, for transformers' model classes.

The models stay as they are: they ask a Cache for keys and values and an attention function for their mixture, and
both are ours. Storage is one tensor, so that moving a sequence to another slot is one copy.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin
from transformers.masking_utils import AttentionMaskInterface

ATTENTION = "fipo_slots"


class SlotCache(Cache):
    """Keys and values of up to `slots` sequences of up to `length` tokens."""

    def __init__(self, model: PreTrainedModel, slots: int, length: int) -> None:
        config = model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (config.num_hidden_layers, 2, slots, heads, length, size)
        self.storage = torch.zeros(shape, dtype=model.dtype, device=model.device)
        self.slots = slots
        self.length = length
        super().__init__(layers=[_SlotLayer(self, keys, values) for keys, values in self.storage])
        self.see(length, torch.zeros(slots, dtype=torch.long, device=model.device))

    def see(self, length: int, positions: Tensor) -> None:
        """The next forward pass is over the first slots, each at its own of `positions` [rows], below `length`."""
        self.seen = length
        self.rows = torch.arange(len(positions), device=positions.device)
        self.positions = positions

    def put(self, slot: int, prefix: Tensor) -> None:
        """`prefix` [layers, 2, heads, T, size] as the first T tokens of a slot."""
        self.storage[:, :, slot, :, : prefix.shape[3]] = prefix

    def move(self, source: int, target: int, length: int) -> None:
        """The first `length` tokens of one slot to another."""
        self.storage[:, :, target, :, :length] = self.storage[:, :, source, :, :length]


class _SlotLayer(CacheLayerMixin):
    """What one layer of the model sees of the cache."""

    is_sliding = False

    def __init__(self, cache: SlotCache, keys: Tensor, values: Tensor) -> None:
        super().__init__()
        self.cache = cache
        self.keys: Tensor = keys  # [slots, heads, length, size]
        self.values: Tensor = values
        self.is_initialized = True

    def lazy_initialization(self, *_: Any, **__: Any) -> None:
        """Storage is there from the beginning."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """One new token per row; all keys and values that the rows may look at."""
        cache, rows = self.cache, len(key_states)
        self.keys[cache.rows, :, cache.positions] = key_states[:, :, 0]
        self.values[cache.rows, :, cache.positions] = value_states[:, :, 0]
        return self.keys[:rows, :, : cache.seen], self.values[:rows, :, : cache.seen]

    def get_seq_length(self) -> int:
        return 0  # positions are given to the model, not counted here

    def get_max_length(self) -> int:
        return self.cache.length

    def get_mask_sizes(self, _: int) -> tuple[int, int]:
        return self.cache.seen, 0


def visible(positions: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """[B, 1, 1, length] attention mask to add: 0 up to each row's position, -inf after it."""
    hidden = torch.arange(length, device=positions.device) > positions[:, None]
    return torch.zeros(hidden.shape, dtype=dtype, device=positions.device).masked_fill_(hidden, float("-inf"))[
        :, None, None
    ]


def slot_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of one new token per row. Heads that share keys are queries of one head: nothing is repeated.

    Without a mask it is a prompt that is read, with plain causal attention.
    """
    rows, heads, _one, size = query.shape
    if attention_mask is None:
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=True)
        return mixed.transpose(1, 2).contiguous(), None
    folded = query.view(rows, key.shape[1], -1, size)
    mixed = F.scaled_dot_product_attention(folded, key, value, attn_mask=attention_mask, scale=scaling)
    return mixed.reshape(rows, 1, heads, size), None


AttentionInterface.register(ATTENTION, slot_attention)
AttentionMaskInterface.register(ATTENTION, lambda *_, **__: None)  # ours come with the call


@contextmanager
def slot_decoding(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the model's attention is over the slots of a SlotCache."""
    before = model.config._attn_implementation
    model.set_attn_implementation(ATTENTION)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def prefill(model: PreTrainedModel, prompts: Sequence[tuple[int, ...]], tokens: int) -> dict[tuple[int, ...], Tensor]:
    """Keys and values [layers, 2, heads, T, size] of each prompt but its last token, `tokens` in a forward pass.

    Padding stands on the right, where causal attention never looks.
    """
    prefixes: dict[tuple[int, ...], Tensor] = {}
    ordered = sorted(prompts, key=len, reverse=True)
    while ordered:
        width = len(ordered[0]) - 1
        count = max(1, tokens // max(1, width))
        batch, ordered = ordered[:count], ordered[count:]
        keys_and_values = _forward(model, [prompt[:-1] + (0,) * (width + 1 - len(prompt)) for prompt in batch])
        for i, prompt in enumerate(batch):
            prefixes[prompt] = keys_and_values[:, :, i, :, : len(prompt) - 1].clone()
    return prefixes


def _forward(model: PreTrainedModel, rows: list[tuple[int, ...]]) -> Tensor:
    """[layers, 2, B, heads, T, size] of B rows of T tokens."""
    cache: Any = DynamicCache(config=model.config)
    model(input_ids=torch.tensor(rows, device=model.device), past_key_values=cache, use_cache=True, logits_to_keep=1)
    return torch.stack([torch.stack([layer.keys, layer.values]) for layer in cache.layers])
