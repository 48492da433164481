"""Generation with the policy's own weights, in this process: no second copy, no sync, no mismatch.

Continuous batching over fixed slots: a finished response leaves at once and the next prompt enters. Prompts that
occur several times are read once. Left out: sharing of prefixes between different prompts.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fipo.rollout.choose import choose
from fipo.rollout.sampler import Response, SamplingParams, check_finite, uniforms_of
from fipo.rollout.slots import SlotCache, prefill, slot_decoding, visible

PREFILL_TOKENS = 16384  # in one forward pass


class SlotEngine:
    """A Sampler for decoder-only models that use transformers' cache and attention interfaces."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        stop_tokens: Sequence[int],
        slots: int,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.model = model
        self.stop_tokens = frozenset(stop_tokens)
        self.slots = slots  # sequences decoded together
        self.beat = beat  # called after every token
        self._cache: SlotCache | None = None

    @torch.inference_mode()
    def sample(self, prompts: Sequence[list[int]], params: SamplingParams, seed: int) -> list[Response]:
        """One response per prompt, in order. Its random numbers are those of its place in `prompts`."""
        if not prompts:
            return []
        slots = min(self.slots, len(prompts))
        cache = self._cache_for(slots, max(map(len, prompts)) + params.max_tokens)
        batch = _Batch(self.model, cache, slots, prompts, params, seed, self.stop_tokens)
        with slot_decoding(self.model):
            while batch.waiting or batch.active:
                batch.admit()
                batch.step()
                self.beat()
        return [batch.done[i] for i in range(len(prompts))]

    def _cache_for(self, slots: int, length: int) -> SlotCache:
        """The cache of an earlier call if it is large enough; else one that would have served both calls."""
        cache = self._cache
        if cache is None or cache.slots < slots or cache.length < length:
            if cache is not None:
                slots, length = max(slots, cache.slots), max(length, cache.length)
            self._cache = cache = None  # its memory is free before the new one takes its own
            self._cache = cache = SlotCache(self.model, slots, length)
        return cache


@dataclass(kw_only=True)
class _Row:
    """A response in the making."""

    index: int  # of its prompt
    prompt: list[int]
    uniforms: list[float]  # one for each token that it may have
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    sampling_logprobs: list[float] = field(default_factory=list)

    @property
    def position(self) -> int:
        """Where the token stands that is fed next."""
        return len(self.prompt) - 1 + len(self.tokens)

    @property
    def fed(self) -> int:
        return self.tokens[-1] if self.tokens else self.prompt[-1]


class _Batch:
    """The state of one call. Active rows are the first slots: the last one moves into a gap."""

    def __init__(
        self,
        model: PreTrainedModel,
        cache: SlotCache,
        slots: int,
        prompts: Sequence[list[int]],
        params: SamplingParams,
        seed: int,
        stop_tokens: frozenset[int],
    ) -> None:
        self.model = model
        self.cache = cache
        self.slots = slots
        self.params = params
        self.seed = seed
        self.stop_tokens = stop_tokens
        self.waiting = deque(enumerate(prompts))
        self.active: list[_Row] = []
        self.done: dict[int, Response] = {}
        self.prefixes: dict[tuple[int, ...], Tensor] = {}  # of prompts that are read and still wanted
        self.wanted = Counter(map(tuple, prompts))

    def admit(self) -> None:
        """Waiting prompts enter the free slots."""
        entering = [self.waiting.popleft() for _ in range(min(self.slots - len(self.active), len(self.waiting)))]
        self._read([prompt for _, prompt in entering])
        for index, prompt in entering:
            key = tuple(prompt)
            if len(key) > 1:
                self.cache.put(len(self.active), self.prefixes[key])
            self.wanted[key] -= 1
            if not self.wanted[key]:
                self.prefixes.pop(key, None)
            uniforms = uniforms_of(self.seed, index, self.params.max_tokens)
            self.active.append(_Row(index=index, prompt=prompt, uniforms=uniforms))

    def step(self) -> None:
        """One more token for every active row."""
        device = self.model.device
        fed = torch.tensor([[row.fed] for row in self.active], device=device)
        positions = torch.tensor([row.position for row in self.active], device=device)
        uniforms = torch.tensor([row.uniforms[len(row.tokens)] for row in self.active], dtype=torch.float64)
        length = max(row.position for row in self.active) + 1
        self.cache.see(length, positions)
        logits = self.model(
            input_ids=fed,
            position_ids=positions[:, None],
            attention_mask=visible(positions, length, self.model.dtype),
            past_key_values=self.cache,
            use_cache=True,
        ).logits[:, -1]
        choice = choose(logits, self.params, uniforms.to(device))
        chosen = zip(choice.tokens.tolist(), choice.logprobs.tolist(), choice.sampling_logprobs.tolist(), strict=True)
        for row, (token, logprob, sampling_logprob) in zip(self.active, chosen, strict=True):
            row.tokens.append(token)
            row.logprobs.append(logprob)
            row.sampling_logprobs.append(sampling_logprob)
        for slot in reversed(range(len(self.active))):
            row = self.active[slot]
            stopped = row.tokens[-1] in self.stop_tokens
            if stopped or len(row.tokens) == self.params.max_tokens:
                self._finish(slot, truncated=not stopped)

    def _read(self, prompts: list[list[int]]) -> None:
        """Compute the prefixes of new prompts; if there are any, of those that come next too, as one pass."""
        if all(tuple(prompt) in self.prefixes for prompt in prompts if len(prompt) > 1):
            return
        coming = [prompt for _, prompt in islice(self.waiting, 2 * self.slots)]
        new = {tuple(prompt) for prompt in [*prompts, *coming] if len(prompt) > 1} - self.prefixes.keys()
        self.prefixes |= prefill(self.model, sorted(new), PREFILL_TOKENS)

    def _finish(self, slot: int, *, truncated: bool) -> None:
        """Take the response of a slot out, and move the last active slot into the gap."""
        row = self.active[slot]
        check_finite(row.logprobs)
        self.done[row.index] = Response(
            tokens=row.tokens,
            logprobs=row.logprobs,
            sampling_logprobs=row.sampling_logprobs,
            truncated=truncated,
        )
        last = len(self.active) - 1
        moved = self.active.pop()
        if slot != last:
            self.active[slot] = moved
            self.cache.move(last, slot, moved.position)
