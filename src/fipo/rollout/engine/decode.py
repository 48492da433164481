"""One decode step as a function of tensors that stay where they are, so that it can be recorded and replayed.

It never looks at a value on the host: what it reads and writes are the tensors of a State.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fipo.rollout.engine.choose import choose
from fipo.rollout.engine.slots import SlotCache, cache_argument, visible
from fipo.rollout.sampler import SamplingParams


@dataclass(frozen=True, kw_only=True)
class StepShape:
    """What is fixed in a recorded step."""

    rows: int  # the first slots, as many as this
    length: int  # columns of the cache that are looked at; more than any position of these rows
    params: SamplingParams  # whatever its max_tokens


class State:
    """What a step reads and writes, for S slots and up to K steps between two looks of the host."""

    def __init__(self, storage: Tensor, steps: int) -> None:
        slots, device = storage.shape[2], storage.device
        self.steps = steps
        self.storage = storage  # of the cache
        self.feed = torch.zeros(3, slots, dtype=torch.long, device=device)  # token, its position, its last position
        self.uniforms = torch.zeros(steps, slots, dtype=torch.float64, device=device)  # [K, S]
        self.turn = torch.zeros(1, dtype=torch.long, device=device)  # which of the K steps comes next
        self.chosen = torch.zeros(steps, 2, slots, dtype=torch.float64, device=device)  # token and its log-prob

    def tensors(self) -> tuple[Tensor, ...]:
        return self.storage, self.feed, self.uniforms, self.turn, self.chosen

    def moving(self) -> tuple[Tensor, ...]:
        """What a step changes and reads again."""
        return self.feed, self.turn

    def load(self, feed: Sequence[tuple[int, int, int]]) -> None:
        """What each active row is fed next. Slots beyond them are fed token 0 at position 0 and stay there."""
        idle = [(0, 0, 0)] * (self.feed.shape[1] - len(feed))
        self.feed.copy_(torch.tensor([*feed, *idle]).T)

    def load_uniforms(self, uniforms: Sequence[list[float]]) -> None:
        """The active rows' next random numbers, up to K of each."""
        steps = max(map(len, uniforms))
        numbers = torch.tensor([row + [0.0] * (steps - len(row)) for row in uniforms], dtype=torch.float64).T
        self.uniforms[:steps, : len(uniforms)] = numbers.to(self.uniforms.device)
        self.turn.zero_()

    def read(self, steps: int, rows: int) -> tuple[list[list[int]], list[list[float]]]:
        """(tokens, logprobs), each [rows][steps]: the one wait for the device."""
        tokens, logprobs = self.chosen[:steps, :, :rows].cpu().permute(1, 2, 0)
        return tokens.long().tolist(), logprobs.tolist()


def decode_step(
    model: PreTrainedModel,
    cache: SlotCache,
    shape: StepShape,
    storage: Tensor,
    feed: Tensor,
    uniforms: Tensor,
    turn: Tensor,
    chosen: Tensor,
) -> Tensor:
    """One more token for every row, written to `chosen` (which is returned) and fed next.

    A row stays at its last position. What it does there is not read: rows that are over, and rows without a
    sequence, go on until the host looks.
    """
    tokens, positions, last = feed[:, : shape.rows].unbind(0)
    cache.see(storage, positions, shape.length)
    call: Any = model
    logits = call(
        input_ids=tokens[:, None],
        position_ids=positions[:, None],
        attention_mask=visible(positions, shape.length, model.dtype),
        slot_positions=positions,
        use_cache=True,
        **{cache_argument(type(model).forward): cache},
    ).logits[:, -1]
    choice = choose(logits, shape.params, uniforms[:, : shape.rows].index_select(0, turn)[0])
    values = torch.stack([choice.tokens.double(), choice.logprobs.double()])
    chosen[:, :, : shape.rows].index_copy_(0, turn, values[None])
    tokens.copy_(choice.tokens)
    positions.copy_(torch.minimum(positions + 1, last))
    turn.add_(1)
    return chosen
