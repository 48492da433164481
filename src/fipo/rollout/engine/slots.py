"""A key-value cache of fixed slots, each sequence at a position of its own, for transformers' model classes.

The models stay as they are: they ask a Cache for keys and values and an attention function for their mixture, and
both are ours. Storage is one tensor, so that moving a sequence to another slot is one copy.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, Cache, DynamicCache, PreTrainedModel
from transformers.cache_utils import CacheLayerMixin
from transformers.masking_utils import AttentionMaskInterface

from fipo.models.attention import attend
from fipo.models.kernels import kernel_obstacle
from fipo.rollout.prompts import common_head

ATTENTION = "fipo_slots"
LEAST_SHARED = 32  # tokens that all prompts begin with, to be worth a forward pass of their own


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
        self.slot_layers = [_SlotLayer() for _ in range(config.num_hidden_layers)]
        super().__init__(layers=list(self.slot_layers))

    def see(self, storage: Tensor, positions: Tensor, length: int) -> None:
        """The next forward pass is over the first slots of `storage`, at `positions` [rows], all below `length`."""
        rows = positions.shape[0]
        columns = positions[:, None, None, None].expand(rows, storage.shape[3], 1, storage.shape[5])
        seen = storage[:, :, :rows, :, :length].flatten(0, 1).unbind(0)
        for layer, keys, values in zip(self.slot_layers, seen[::2], seen[1::2], strict=True):
            layer.keys, layer.values, layer.columns = keys, values, columns

    def put(self, slot: int, prefix: Tensor) -> None:
        """`prefix` [layers, 2, heads, T, size] as the first T tokens of a slot."""
        self.storage[:, :, slot, :, : prefix.shape[3]] = prefix

    def move(self, source: int, target: int, length: int) -> None:
        """The first `length` tokens of one slot to another."""
        self.storage[:, :, target, :, :length] = self.storage[:, :, source, :, :length]


class _SlotLayer(CacheLayerMixin):
    """What one layer of the model sees of the cache."""

    is_sliding = False

    def __init__(self) -> None:
        super().__init__()
        self.keys: Tensor  # [rows, heads, length, size]
        self.values: Tensor
        self.columns: Tensor  # [rows, heads, 1, size], where the new token goes
        self.is_initialized = True

    def lazy_initialization(self, *_: Any, **__: Any) -> None:
        """Storage is there from the beginning."""

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """One new token per row; all keys and values that the rows may look at."""
        self.keys.scatter_(2, self.columns, key_states)
        self.values.scatter_(2, self.columns, value_states)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return 0  # positions are given to the model, not counted here

    def get_max_length(self) -> int:
        return self.keys.shape[2]

    def get_mask_sizes(self, _: int) -> tuple[int, int]:
        return self.keys.shape[2], 0


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
    *,
    slot_positions: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of one new token per row. Heads that share keys are queries of one head: nothing is repeated.

    On CUDA each row is read up to its own position, elsewhere all of them as far as the mask goes.
    Without a mask it is a prompt that is read, with plain causal attention to itself and all of its head.
    """
    rows, heads, tokens, size = query.shape
    if attention_mask is None:
        head = key.shape[2] - tokens
        mask = torch.ones(tokens, key.shape[2], dtype=torch.bool, device=key.device).tril(head) if head else None
        mixed = attend(query, key, value, mask=mask, scale=scaling)
        return mixed.transpose(1, 2).contiguous(), None
    folded = query.view(rows, key.shape[1], -1, size)
    if slot_positions is not None and ragged(folded):
        own = _own(folded, key, value, slot_positions, size**-0.5 if scaling is None else scaling)
        return own.reshape(rows, 1, heads, size), None
    mixed = F.scaled_dot_product_attention(folded, key, value, attn_mask=attention_mask, scale=scaling)
    return mixed.reshape(rows, 1, heads, size), None


def ragged(query: Tensor) -> bool:
    """Whether Triton kernels read each row's own tokens alone: on CUDA, in no more than float32, where they run."""
    return query.is_cuda and query.element_size() <= 4 and query.shape[-1] <= 256 and obstacle() is None


@cache
def obstacle() -> str | None:
    """Why the kernels of attention to a row's own tokens do not run on this process's GPU; None if they do."""
    return kernel_obstacle(partial(_kernels_are_right, torch.device("cuda")))


def _own(query: Tensor, key: Tensor, value: Tensor, positions: Tensor, scale: float) -> Tensor:
    from fipo.rollout.engine.ragged_kernels import attend_to_own  # needs triton

    return attend_to_own(query, key, value, positions, scale)


def _kernels_are_right(device: torch.device) -> bool:
    """Rows of several lengths beside torch's attention."""
    positions = torch.tensor([0, 63, 700], device=device)
    numbers = torch.linspace(0, 400, 3 * 2 * 800 * 32, device=device).sin().view(3, 2, 800, 32)
    query, key, value = numbers[:, :, :7], numbers, numbers.flip(2)
    mask = visible(positions, 800, numbers.dtype)
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.3)
    return torch.allclose(_own(query, key, value, positions, 0.3), expected, rtol=1e-3, atol=1e-3)


AttentionInterface.register(ATTENTION, slot_attention)
AttentionMaskInterface.register(ATTENTION, lambda *_, **__: None)  # ours come with the call


@contextmanager
def slot_decoding(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the model's attention is over the slots of a SlotCache.

    Each write of decoding has a place of its own, so the slower kernels that fix an order are switched off.
    """
    attention = model.config._attn_implementation
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    model.set_attn_implementation(ATTENTION)
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        model.set_attn_implementation(attention)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)


def prefill(model: PreTrainedModel, prompts: Sequence[tuple[int, ...]], tokens: int) -> dict[tuple[int, ...], Tensor]:
    """Keys and values [layers, 2, heads, T, size] of each prompt but its last token, `tokens` in a forward pass.

    What all prompts begin with is read once. Padding stands on the right, where causal attention never looks.
    """
    ordered = sorted(prompts, key=len, reverse=True)
    if not ordered:
        return {}
    shared = _shared(ordered)
    head = _forward(model, [ordered[0][:shared]], None) if shared else None
    prefixes: dict[tuple[int, ...], Tensor] = {}
    while ordered:
        width = len(ordered[0]) - 1 - shared
        count = max(1, tokens // max(1, shared + width))  # every row gets a copy of the head's keys and values
        batch, ordered = ordered[:count], ordered[count:]
        rows = [prompt[shared:-1] + (0,) * (width + 1 + shared - len(prompt)) for prompt in batch]
        keys_and_values = _forward(model, rows, head)
        for i, prompt in enumerate(batch):
            prefixes[prompt] = keys_and_values[:, :, i, :, : len(prompt) - 1].clone()
    return prefixes


@cache
def cache_argument(forward: Callable[..., Any]) -> str:
    """What a model's forward calls the cache of keys and values: transformers has renamed it in 5.24."""
    return "cache" if "cache" in inspect.signature(forward).parameters else "past_key_values"


def _shared(prompts: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all prompts begin with, 0 if too few; each of them has two more at least."""
    if len(prompts) == 1:
        return 0
    length = min(common_head(prompts), min(map(len, prompts)) - 2)
    return length if length >= LEAST_SHARED else 0


def _forward(model: PreTrainedModel, rows: list[tuple[int, ...]], head: Tensor | None) -> Tensor:
    """[layers, 2, B, heads, T, size] of B rows that go on from `head` [layers, 2, 1, heads, P, size], if any."""
    cache: Any = DynamicCache(config=model.config)
    if head is not None:
        for i, (keys, values) in enumerate(head):
            cache.update(keys.expand(len(rows), -1, -1, -1), values.expand(len(rows), -1, -1, -1), i)
    ids = torch.tensor(rows, device=model.device)
    model(input_ids=ids, **{cache_argument(type(model).forward): cache}, use_cache=True, logits_to_keep=1)
    return torch.stack([torch.stack([layer.keys, layer.values]) for layer in cache.layers])
