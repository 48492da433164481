"""How long a sequence of a model may be, and the lengths at which its config says that something changes."""

import re
from collections.abc import Iterator
from typing import Any

from transformers import PreTrainedConfig

POSITIONS = ("max_position_embeddings", "max_seq_len")
CHANGE = re.compile(
    r"window|chunk_size|original_max_position|floor_scale|n_floor|index_topk|local_attention|block_size|dense_len|compress"
)


def positions_of(config: PreTrainedConfig) -> int | None:
    """The most tokens that a sequence may have, of the text part of a composite config; None without a limit."""
    text = config.get_text_config(decoder=True)
    limits = [getattr(text, name, None) for name in POSITIONS]
    return min((limit for limit in limits if isinstance(limit, int)), default=None)


def longest_of(config: PreTrainedConfig) -> int:
    """How many tokens a sequence has at most where nobody says how many."""
    return positions_of(config) or 4096


def turning_points(config: PreTrainedConfig, longest: int) -> list[int]:
    """The lengths below `longest` at which a window, a chunk or a range of positions ends."""
    found = _lengths(config.get_text_config(decoder=True).to_dict())
    return sorted({length for length in found if 0 < length < longest})


def _lengths(value: Any, named: bool = False) -> Iterator[int]:
    """The integers under keys that speak of such a length, however deep."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _lengths(inner, named or bool(CHANGE.search(str(key))))
    elif isinstance(value, list):
        for inner in value:
            yield from _lengths(inner, named)
    elif named and isinstance(value, int) and not isinstance(value, bool):
        yield value
