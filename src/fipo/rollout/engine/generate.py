"""Sampling by transformers' own `generate`, for models whose attention or cache the slot engine cannot use."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import LogitsProcessor, LogitsProcessorList, PreTrainedModel

from fipo.rollout.engine.choose import Choice, choose
from fipo.rollout.sampler import Response, SamplingParams, Seed, check_finite, uniforms_of


class GenerateSampler:
    """A Sampler for any model that can `generate`: slower, with the engine's random numbers and log-probs."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        stop_tokens: Sequence[int],
        batch_size: int,
        beat: Callable[[], None] = lambda: None,
    ) -> None:
        self.model = model
        self.stop_tokens = sorted(stop_tokens)
        self.batch_size = batch_size
        self.beat = beat

    @torch.inference_mode()
    def sample(self, prompts: Sequence[list[int]], params: SamplingParams, seed: Seed) -> list[Response]:
        responses: list[Response] = []
        for start in range(0, len(prompts), self.batch_size):
            batch = prompts[start : start + self.batch_size]
            rows = range(start, start + len(batch))
            uniforms = [uniforms_of(seed, row, params.max_tokens) for row in rows]
            responses += self._generate(batch, params, torch.tensor(uniforms, dtype=torch.float64))
        return responses

    def _generate(self, prompts: Sequence[list[int]], params: SamplingParams, uniforms: Tensor) -> list[Response]:
        width = max(map(len, prompts))
        padding = [width - len(prompt) for prompt in prompts]
        generate: Any = self.model.generate
        chooser = _Chooser(params, uniforms.to(self.model.device), self.beat)
        generate(
            torch.tensor([[0] * n + prompt for n, prompt in zip(padding, prompts, strict=True)]).to(self.model.device),
            attention_mask=torch.tensor([[0] * n + [1] * (width - n) for n in padding]).to(self.model.device),
            max_new_tokens=params.max_tokens,
            do_sample=False,
            eos_token_id=self.stop_tokens or None,
            pad_token_id=0,
            logits_processor=LogitsProcessorList([chooser]),
        )
        tokens = torch.stack([choice.tokens for choice in chooser.choices], dim=1).tolist()
        logprobs = torch.stack([choice.logprobs for choice in chooser.choices], dim=1).tolist()
        return [self._response(*row) for row in zip(tokens, logprobs, strict=True)]

    def _response(self, tokens: list[int], logprobs: list[float]) -> Response:
        """Up to and with the first stop token."""
        stops = [i for i, token in enumerate(tokens) if token in self.stop_tokens]
        end = stops[0] + 1 if stops else len(tokens)
        check_finite(logprobs[:end])
        return Response(tokens=tokens[:end], logprobs=logprobs[:end], truncated=not stops)


class _Chooser(LogitsProcessor):
    """Chooses each token itself and leaves `generate`, which is greedy, no other."""

    def __init__(self, params: SamplingParams, uniforms: Tensor, beat: Callable[[], None]) -> None:
        self.params = params
        self.uniforms = uniforms  # [B, max_tokens]
        self.beat = beat
        self.choices: list[Choice] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        choice = choose(scores, self.params, self.uniforms[:, len(self.choices)])
        self.choices.append(choice)
        self.beat()
        return torch.full_like(scores, float("-inf")).scatter(1, choice.tokens[:, None], 0.0)
