"""Generation with the policy's own weights, in this process: no second copy but of small models, no mismatch.

Continuous batching over fixed slots: a finished response leaves and the next prompt enters, on the CPU at once, on a
GPU when the host looks again. Prompts that occur several times are read once, and so is what all begin with. Left out:
what only some prompts share.
"""

from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fipo.beat import Beat, no_beat
from fipo.rollout.engine.decode import StepShape
from fipo.rollout.engine.recorder import Recorder, fingerprint, round_up
from fipo.rollout.engine.slots import SlotCache, prefill, slot_decoding
from fipo.rollout.sampler import Response, SamplingParams, Seed, check_finite, uniforms_of

PREFILL_TOKENS = 16384  # in one forward pass
STEPS = {"cpu": 1, "cuda": 16}  # between two looks of the host, for which a GPU has to wait


class SlotEngine:
    """A Sampler for decoder-only models that use transformers' cache and attention interfaces."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        stop_tokens: Sequence[int],
        slots: int,
        beat: Beat = no_beat,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.model = model
        self.stop_tokens = frozenset(stop_tokens)
        self.slots = slots  # sequences decoded together
        self.beat = beat  # called whenever the host has looked at new tokens, with how many responses are done
        self.say = say
        self._recorder: Recorder | None = None

    @torch.inference_mode()
    def sample(self, prompts: Sequence[list[int]], params: SamplingParams, seed: Seed) -> list[Response]:
        """One response per prompt, in order. Its random numbers are those of its place in `prompts`."""
        if not prompts:
            return []
        slots = min(self.slots, len(prompts))
        length = self._length(max(map(len, prompts)) + params.max_tokens)
        params = params.of(self.model.config.get_text_config(decoder=True).vocab_size)
        with slot_decoding(self.model):
            recorder = self._recorder_for(slots, length)
            recorder.refresh()
            batch = _Batch(recorder, slots, length, prompts, params, seed, self.stop_tokens)
            while batch.waiting or batch.active:
                batch.admit()
                batch.step()
                self.beat(len(batch.done), len(prompts))
        return [batch.done[i] for i in range(len(prompts))]

    @torch.inference_mode()
    def reserve(self, longest: int) -> None:
        """Take the memory of all slots for sequences of `longest` tokens: better not to have it now than later."""
        self._recorder_for(self.slots, self._length(longest))

    def release(self) -> None:
        """Give the memory of all slots back; the next call takes it again, and its responses are the same."""
        self._recorder = None
        if self.model.device.type == "cuda":
            torch.cuda.empty_cache()

    @staticmethod
    def _length(tokens: int) -> int:
        return round_up(tokens, parts=8, least=32)

    def _recorder_for(self, slots: int, length: int) -> Recorder:
        """That of an earlier call if its cache is large enough; else one that would have served both calls."""
        known = self._recorder
        if known is not None:
            large_enough = known.cache.slots >= slots and known.cache.length >= length
            if large_enough and known.fingerprint == fingerprint(self.model):
                return known
            slots, length = max(slots, known.cache.slots), max(length, known.cache.length)
        self._recorder = known = None  # its memory is free before the new one takes its own
        cache = SlotCache(self.model, slots, length)
        self._recorder = Recorder(self.model, cache, STEPS[self.model.device.type], self.say)
        return self._recorder


@dataclass(kw_only=True)
class _Row:
    """A response in the making."""

    index: int  # of its prompt
    prompt: list[int]
    uniforms: list[float]  # one for each token that it may have
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    stopped: bool = False

    @property
    def position(self) -> int:
        """Where the token stands that is fed next."""
        return len(self.prompt) - 1 + len(self.tokens)

    @property
    def feed(self) -> tuple[int, int, int]:
        """(the token that is fed next, its position, the last position that is ever fed)"""
        token = self.tokens[-1] if self.tokens else self.prompt[-1]
        return token, self.position, len(self.prompt) - 2 + len(self.uniforms)

    def extend(self, tokens: Sequence[int], logprobs: Sequence[float], stop_tokens: frozenset[int]) -> bool:
        """Take what was decoded, up to the first stop token or as many as may be; whether that is the end."""
        for token, logprob in zip(tokens, logprobs, strict=True):
            self.tokens.append(token)
            self.logprobs.append(logprob)
            self.stopped = token in stop_tokens
            if self.stopped or len(self.tokens) == len(self.uniforms):
                return True
        return False


class _Batch:
    """The state of one call. Active rows are the first slots: the last one moves into a gap."""

    def __init__(
        self,
        recorder: Recorder,
        slots: int,
        length: int,
        prompts: Sequence[list[int]],
        params: SamplingParams,
        seed: Seed,
        stop_tokens: frozenset[int],
    ) -> None:
        self.recorder = recorder
        self.cache = recorder.cache
        self.slots = slots
        self.length = length
        self.max_tokens = params.max_tokens
        self.params = replace(params, max_tokens=1)  # how a token is drawn: recorded steps are for any number of them
        self.seed = seed
        self.stop_tokens = stop_tokens
        self.waiting = deque(enumerate(prompts))
        self.active: list[_Row] = []
        self.done: dict[int, Response] = {}
        self.prefixes: dict[tuple[int, ...], Tensor] = {}  # of prompts that are read and still wanted
        self.wanted = Counter(map(tuple, prompts))
        self.changed = True  # which rows are in which slots

    def admit(self) -> None:
        """Waiting prompts enter the free slots."""
        if not self.waiting:
            return
        entering = [self.waiting.popleft() for _ in range(min(self.slots - len(self.active), len(self.waiting)))]
        self._read([prompt for _, prompt in entering])
        for index, prompt in entering:
            key = tuple(prompt)
            if len(key) > 1:
                self.cache.put(len(self.active), self.prefixes[key])
            self.wanted[key] -= 1
            if not self.wanted[key]:
                self.prefixes.pop(key, None)
            uniforms = uniforms_of(self.seed, index, self.max_tokens)
            self.changed = True
            self.active.append(_Row(index=index, prompt=prompt, uniforms=uniforms))

    def step(self) -> None:
        """More tokens for every active row, as many as are decoded between two looks."""
        state = self.recorder.state
        if self.changed:
            state.load([row.feed for row in self.active])
            self.changed = False
        steps = min(state.steps, self.max_tokens - min(len(row.tokens) for row in self.active))
        state.load_uniforms([row.uniforms[len(row.tokens) : len(row.tokens) + steps] for row in self.active])
        reach = min(max(row.position for row in self.active) + steps, self.length)
        shape = StepShape(
            rows=min(round_up(len(self.active), parts=2, least=4), self.slots),
            length=min(round_up(reach, parts=2, least=32), self.length),
            params=self.params,
        )
        for _ in range(steps):
            self.recorder.run(shape)
        tokens, logprobs = state.read(steps, len(self.active))
        over = [
            slot for slot, row in enumerate(self.active) if row.extend(tokens[slot], logprobs[slot], self.stop_tokens)
        ]
        for slot in reversed(over):
            self._finish(slot)

    def _read(self, prompts: list[list[int]]) -> None:
        """Compute the prefixes of new prompts; if there are any, of those that come next too, as one pass."""
        if all(tuple(prompt) in self.prefixes for prompt in prompts if len(prompt) > 1):
            return
        new = {tuple(prompt) for prompt in prompts if len(prompt) > 1} - self.prefixes.keys()
        for _, prompt in islice(self.waiting, 2 * self.slots):
            ahead = {tuple(prompt)} - self.prefixes.keys() if len(prompt) > 1 else set()
            if sum(map(len, new | ahead)) > PREFILL_TOKENS:
                break
            new |= ahead
        self.prefixes |= prefill(self.recorder.model, sorted(new), PREFILL_TOKENS)

    def _finish(self, slot: int) -> None:
        """Take the response of a slot out, and move the last active slot into the gap."""
        self.changed = True
        row = self.active[slot]
        check_finite(row.logprobs)
        self.done[row.index] = Response(tokens=row.tokens, logprobs=row.logprobs, truncated=not row.stopped)
        last = len(self.active) - 1
        moved = self.active.pop()
        if slot != last:
            self.active[slot] = moved
            self.cache.move(last, slot, moved.position)
