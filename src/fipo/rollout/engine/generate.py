"""Sampling by transformers' own `generate`, for models whose attention or cache the slot engine cannot use."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList, PreTrainedModel

from fipo.beat import Beat, no_beat
from fipo.rollout.engine.choose import Choice, choose
from fipo.rollout.sampler import Response, SamplingParams, Seed, check_finite, uniforms_of

NO_ADVICE = ("_", "output_", "return_dict", "transformers_version", "use_cache")  # nothing of how to sample


class GenerateSampler:
    """A Sampler for any model that can `generate`: slower, with the engine's random numbers and log-probs.

    mixed: prompts of different lengths are padded to one and decoded together, which some models cannot do.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        stop_tokens: Sequence[int],
        batch_size: int,
        mixed: bool = True,
        beat: Beat = no_beat,
    ) -> None:
        self.model = model
        self.stop_tokens = frozenset(stop_tokens)
        self.batch_size = batch_size
        self.mixed = mixed
        self.beat = beat

    @torch.inference_mode()
    def sample(self, prompts: Sequence[list[int]], params: SamplingParams, seed: Seed) -> list[Response]:
        responses: dict[int, Response] = {}
        for rows in self._batches(prompts):
            uniforms = [uniforms_of(seed, row, params.max_tokens) for row in rows]
            noise = torch.tensor(uniforms, dtype=torch.float64)
            beat = partial(self.beat, len(responses), len(prompts))
            made = self._generate([prompts[row] for row in rows], params, noise, beat)
            responses |= zip(rows, made, strict=True)
        return [responses[row] for row in range(len(prompts))]

    def release(self) -> None:
        """Nothing is held between two calls."""

    def _batches(self, prompts: Sequence[list[int]]) -> Iterator[list[int]]:
        """The places of the prompts that are decoded together."""
        alike: dict[int, list[int]] = {}
        for row, prompt in enumerate(prompts):
            alike.setdefault(0 if self.mixed else len(prompt), []).append(row)
        for rows in alike.values():
            for start in range(0, len(rows), self.batch_size):
                yield rows[start : start + self.batch_size]

    def _generate(
        self, prompts: Sequence[list[int]], params: SamplingParams, uniforms: Tensor, beat: Beat
    ) -> list[Response]:
        width = max(map(len, prompts))
        padding = [width - len(prompt) for prompt in prompts]
        generate: Any = self.model.generate
        chooser = _Chooser(params, uniforms.to(self.model.device), beat)
        config = GenerationConfig(
            max_new_tokens=params.max_tokens,
            do_sample=False,
            use_cache=True,
            eos_token_id=sorted(self.stop_tokens) or None,
            pad_token_id=0,
        )
        with _nothing_inherited(self.model):
            generate(
                torch.tensor([[0] * n + prompt for n, prompt in zip(padding, prompts, strict=True)]).to(
                    self.model.device
                ),
                attention_mask=torch.tensor([[0] * n + [1] * (width - n) for n in padding]).to(self.model.device),
                generation_config=config,
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

    def __init__(self, params: SamplingParams, uniforms: Tensor, beat: Beat) -> None:
        self.params = params
        self.uniforms = uniforms  # [B, max_tokens]
        self.beat = beat
        self.choices: list[Choice] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        choice = choose(scores, self.params.of(scores.shape[-1]), self.uniforms[:, len(self.choices)])
        self.choices.append(choice)
        self.beat()
        return torch.full_like(scores, float("-inf")).scatter(1, choice.tokens[:, None], 0.0)


@contextmanager
def _nothing_inherited(model: PreTrainedModel) -> Iterator[None]:
    """Inside, the model has no generation config: `generate` takes from it whatever it is not given."""
    config = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = config


def advice_of(model: PreTrainedModel) -> str:
    """What the model's generation config asks for, as `temperature = 0.6, top_p = 0.95`; "" if nothing."""
    config = model.generation_config
    asked = config.to_diff_dict() if config else {}
    return ", ".join(
        f"{key} = {value}"
        for key, value in sorted(asked.items())
        if not key.startswith(NO_ADVICE) and not key.endswith("_token_id")
    )
