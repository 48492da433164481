"""Sampling with the policy's own weights, in this process: no second copy, no sync, no mismatch.

Left out for now: a preallocated cache and slots that are refilled as responses finish. Finished rows do leave
the batch.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from fipo.errors import RunStopped
from fipo.rollout.sampler import Response, SamplingParams
from fipo.seeding import derive_seed


class DecodeLoop:
    """A Sampler over any decoder-only transformers model that takes a DynamicCache."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        stop_tokens: Sequence[int],
        batch_size: int,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.model = model
        self.beat = beat  # called after every token
        self.stop_tokens = torch.tensor(sorted(stop_tokens), dtype=torch.long, device=model.device)
        self.batch_size = batch_size  # sequences decoded together

    @torch.no_grad()
    def sample(self, prompts: Sequence[list[int]], params: SamplingParams, seed: int) -> list[Response]:
        responses: list[Response] = []
        for start in range(0, len(prompts), self.batch_size):
            batch = prompts[start : start + self.batch_size]
            noise = torch.Generator().manual_seed(derive_seed(seed, "noise", start))
            uniforms = torch.rand(len(batch), params.max_tokens, generator=noise, dtype=torch.float64).to(
                self.model.device
            )
            responses += self._decode(batch, params, uniforms)
        return responses

    def _decode(self, prompts: Sequence[list[int]], params: SamplingParams, uniforms: Tensor) -> list[Response]:
        input_ids, attention_mask = _pad_left(prompts, self.model.device)
        cache = DynamicCache(config=self.model.config)
        shape = (len(prompts), params.max_tokens)
        tokens = torch.zeros(shape, dtype=torch.long, device=self.model.device)
        logprobs = torch.zeros(shape, device=self.model.device)
        lengths = torch.full((len(prompts),), params.max_tokens, device=self.model.device)
        stopped = torch.zeros(len(prompts), dtype=torch.bool, device=self.model.device)
        active = torch.arange(len(prompts), device=self.model.device)  # rows of the batch still decoding

        for t in range(params.max_tokens):
            positions = (attention_mask.cumsum(1) - 1).clamp(min=0)[:, -input_ids.shape[1] :]
            logits = self.model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            ).logits[:, -1]
            chosen, chosen_logprobs = choose(logits, params, uniforms[active, t])
            tokens[active, t], logprobs[active, t] = chosen, chosen_logprobs
            self.beat()
            stops = torch.isin(chosen, self.stop_tokens)
            lengths[active[stops]] = t + 1
            stopped[active[stops]] = True
            if bool(stops.any()):
                going = (~stops).nonzero()[:, 0]
                if len(going) == 0:
                    break
                cache.batch_select_indices(going)
                active, chosen, attention_mask = active[going], chosen[going], attention_mask[going]
            attention_mask = torch.cat([attention_mask, attention_mask.new_ones(len(active), 1)], dim=1)
            input_ids = chosen[:, None]

        if not bool(logprobs.isfinite().all()):
            raise RunStopped("sampling: the model's log-probs must be finite, got NaN or inf: its weights are damaged")
        return [
            Response(tokens=row[:length], logprobs=row_logprobs[:length], truncated=not stop)
            for row, row_logprobs, length, stop in zip(
                tokens.tolist(), logprobs.tolist(), lengths.tolist(), stopped.tolist(), strict=True
            )
        ]


def choose(logits: Tensor, params: SamplingParams, uniforms: Tensor) -> tuple[Tensor, Tensor]:
    """One token per row of `logits` [B, V], by inverse CDF from `uniforms` [B], and its log-prob [B].

    A row's token depends on that row's logits and uniform number alone, not on its neighbours.
    """
    logprobs = torch.log_softmax(logits.float() / (params.temperature or 1.0), dim=-1)
    if params.temperature == 0:
        chosen = logprobs.argmax(-1)
    else:
        probs = logprobs.double().exp()
        if params.top_p < 1:
            probs = nucleus(probs, params.top_p)
        cdf = probs.cumsum(-1)
        chosen = torch.searchsorted(cdf, uniforms[:, None] * cdf[:, -1:], right=True)[:, 0]
        chosen = chosen.clamp(max=logits.shape[-1] - 1)  # past the end if the logits are NaN
    return chosen, logprobs.gather(-1, chosen[:, None])[:, 0]


def nucleus(probs: Tensor, top_p: float) -> Tensor:
    """`probs` [B, V] with 0 outside the smallest set of likeliest tokens that holds at least `top_p`."""
    ordered, order = probs.sort(dim=-1, descending=True)
    outside = ordered.cumsum(-1) - ordered >= top_p
    return probs.masked_fill(outside.gather(-1, order.argsort(-1)), 0.0)


def _pad_left(prompts: Sequence[list[int]], device: torch.device) -> tuple[Tensor, Tensor]:
    """(input_ids, attention_mask) [B, T]; what stands in the padding is never attended to."""
    width = max(len(prompt) for prompt in prompts)
    input_ids = torch.zeros(len(prompts), width, dtype=torch.long)
    attention_mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        input_ids[row, width - len(prompt) :] = torch.tensor(prompt)
        attention_mask[row, width - len(prompt) :] = 1
    return input_ids.to(device), attention_mask.to(device)
