"""A few responses of a sampler beside fresh forward passes: whether it samples the model."""

import inspect
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from fipo.models.attention import Compared
from fipo.models.limits import turning_points
from fipo.rollout.engine.recorder import EAGER_STEPS
from fipo.rollout.sampler import Response, Sampler, SamplingParams

PROBES = [[5, 6, 7, 4, 3], [2, 4], [3, 7, 6]]  # prompts of different lengths, in a vocabulary of any size
TOKENS = 2 * EAGER_STEPS  # of a response: eager steps and recorded ones
LONGER = (40, 128)  # tokens that are always tried as well, if a run can have as many


def reach(config: PreTrainedConfig, longest: int) -> list[int]:
    """Some lengths up to `longest` that are to be tried: each at which a model may change is passed, and its double."""
    turns = [times * length for length in turning_points(config, longest) for times in (1, 2)]
    return sorted({min(length + TOKENS // 2, longest) for length in (*LONGER, *turns)})


def words_of(length: int) -> list[int]:
    """As many tokens, in a vocabulary of any size."""
    return [2 + (7 * i * i + i // 5) % 6 for i in range(length)]


@torch.inference_mode()
def compare(
    model: PreTrainedModel, sampler: Sampler, longest: int, params: SamplingParams, slots: int
) -> list[Compared]:
    """How far log-probs that `sampler` reports are from those of a forward pass over each sequence alone.

    Short sequences beside a longer one each time, up to `longest` tokens, and repeated until there are `slots`.
    """
    params = replace(params, max_tokens=TOKENS)
    compared = []
    for length in reach(model.config, longest):
        probes = [words_of(max(1, length - TOKENS)), *PROBES]
        prompts = [probes[i % len(probes)] for i in range(max(slots, len(probes)))]
        responses = sampler.sample(prompts, params, seed=0)
        compared += [
            _compared(model, prompt, response, params.temperature or 1.0)
            for prompt, response in zip(probes, responses, strict=False)
        ]
    return compared


def _compared(model: PreTrainedModel, prompt: list[int], response: Response, temperature: float) -> Compared:
    logits = _fresh(model, prompt + response.tokens, len(response.tokens) + 1)[:-1]
    tokens = torch.tensor(response.tokens, device=logits.device)[:, None]
    logprobs = (logits / temperature).log_softmax(-1).gather(-1, tokens)[:, 0].cpu()
    difference = (logprobs - torch.tensor(response.logprobs)) * temperature  # as far as logits are off
    return Compared(
        tokens=len(prompt) + len(response.tokens),
        error=float(difference.abs().mean()),
        largest=float(logits.abs().max()),
    )


def _fresh(model: PreTrainedModel, ids: list[int], last: int) -> Tensor:
    """The logits [last, V] of the last tokens of a sequence by itself; of a long one no others are made."""
    fewer: dict[str, Any] = {}
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        fewer["logits_to_keep"] = last
    out = model(input_ids=torch.tensor([ids], device=model.device), use_cache=False, **fewer)
    logits: Tensor = out.logits[0, -last:].float()
    return logits
