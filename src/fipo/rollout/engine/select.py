"""Which sampler a model gets: the slot engine, or `generate` where that cannot decode it."""

from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel

from fipo.models.attention import obstacle
from fipo.rollout.engine.generate import GenerateSampler
from fipo.rollout.engine.recorder import EAGER_STEPS
from fipo.rollout.engine.slot_engine import SlotEngine
from fipo.rollout.sampler import Sampler, SamplingParams

PROBES = [[5, 6, 7, 4, 3], [2, 4]]  # prompts of different lengths, in a vocabulary of any size


def make_sampler(
    model: PreTrainedModel,
    *,
    stop_tokens: Sequence[int],
    slots: int,
    beat: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda _: None,
) -> Sampler:
    """The slot engine for `slots` sequences at a time, or `generate`, which is slower, with one line that says why."""
    reason = obstacle(model, trial)
    if reason is None:
        return SlotEngine(model, stop_tokens=stop_tokens, slots=slots, beat=beat)
    say(f"note: {type(model).__name__} is decoded by generate, which is slower: {reason}")
    return GenerateSampler(model, stop_tokens=stop_tokens, batch_size=slots, beat=beat)


@torch.inference_mode()
def trial(model: PreTrainedModel) -> tuple[float, float]:
    """How far log-probs of the engine, of eager and of recorded steps, are from those of a fresh forward pass."""
    params = SamplingParams.greedy(2 * EAGER_STEPS)
    errors, largest = [], 0.0
    responses = SlotEngine(model, stop_tokens=[], slots=2).sample(PROBES, params, seed=0)
    for prompt, response in zip(PROBES, responses, strict=True):
        ids = torch.tensor([prompt + response.tokens], device=model.device)
        logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
        fresh = logits.log_softmax(-1).gather(-1, ids[0, len(prompt) :, None])[:, 0]
        errors.append((fresh - torch.tensor(response.logprobs, device=model.device)).abs())
        largest = max(largest, float(logits.abs().max()))
    return float(torch.cat(errors).mean()), largest
