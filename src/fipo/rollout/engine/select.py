"""Which sampler a model gets: the slot engine, or `generate` where that cannot decode it."""

from collections.abc import Callable, Iterator
from functools import partial

from transformers import PreTrainedModel

from fipo.beat import Beat, no_beat
from fipo.errors import UserError
from fipo.models.attention import obstacle, scaled_in_the_row, special_attention
from fipo.models.limits import longest_of
from fipo.models.rotary import fix_rotary
from fipo.rollout.engine.generate import GenerateSampler, advice_of
from fipo.rollout.engine.slot_engine import SlotEngine
from fipo.rollout.engine.trial import compare
from fipo.rollout.sampler import Sampler, SamplingParams

Say = Callable[[str], None]
TRIED_SLOTS = 8  # on a CPU, where more take time and show nothing; on CUDA all of them


def make_sampler(
    model: PreTrainedModel,
    *,
    stop_tokens: list[int],
    slots: int,
    longest: int | None = None,
    params: SamplingParams | None = None,
    beat: Beat = no_beat,
    say: Say = lambda _: None,
) -> Sampler:
    """The slot engine for `slots` sequences at a time, or `generate`, which is slower, with one line that says why.

    On CUDA the engine's memory is taken at once if `longest` says for how much.
    Each is tried with `params` (None: greedy), as far as sequences of `longest` tokens (prompt and response; None: as
    many as the model has positions) may differ from short ones. A rotary embedding that depends on the longest sequence
    of a batch is that of `longest` tokens from now on. Raises UserError if no sampler samples the model.
    """
    name = type(model).__name__
    if advice := advice_of(model):
        say(f"note: the model's generation config asks for {advice}; the recipe alone says how is sampled")
    reserved, longest = longest, longest or longest_of(model.config)
    if fix_rotary(model, longest):
        say(
            f"note: {name}'s rotary embedding depends on the longest sequence of a batch: from now on it is that of "
            f"{longest} tokens, the most that prompt and response may have"
        )
    params = params or SamplingParams.greedy(1)
    tried_slots = slots if model.device.type == "cuda" else min(slots, TRIED_SLOTS)
    special = special_attention(model)
    reasons = [special] if special else []
    for sampler in _samplers(model, slots, reserved, beat, say, engine=special is None):
        reason = obstacle(model, partial(compare, model, sampler, longest, params, tried_slots))
        if reason is None:
            sampler.stop_tokens = frozenset(stop_tokens)
            if reasons:
                say(f"note: {name} is decoded by generate, which is slower: {_said(reasons)}")
            return sampler
        reasons.append(reason)
    raise UserError(f"model.path: {name} cannot be sampled as it is trained: decoded by generate, {reasons[-1]}")


def _samplers(
    model: PreTrainedModel, slots: int, reserved: int | None, beat: Beat, say: Say, *, engine: bool
) -> Iterator[SlotEngine | GenerateSampler]:
    """The fastest one first. They stop at no token yet, so that a trial has its length."""
    if engine:
        fastest = SlotEngine(model, stop_tokens=[], slots=slots, beat=beat, say=say)
        if model.device.type == "cuda" and reserved is not None:
            fastest.reserve(reserved)
        yield fastest
        del fastest  # and its memory
    for mixed in (False,) if scaled_in_the_row(model) else (True, False):
        yield GenerateSampler(model, stop_tokens=[], batch_size=slots, mixed=mixed, beat=beat)


def _said(reasons: list[str]) -> str:
    """Why not the engine, and where that is needed why not `generate` with padding."""
    engine, *generate = reasons
    return "; prompts of one length at a time: padded, ".join([engine, *generate])
