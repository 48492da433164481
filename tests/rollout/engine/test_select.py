import pytest
import torch
from tests.conftest import SHAPE
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from fipo.models.attention import obstacle
from fipo.rollout.engine.generate import GenerateSampler
from fipo.rollout.engine.select import make_sampler, trial
from fipo.rollout.engine.slot_engine import SlotEngine
from fipo.rollout.sampler import SamplingParams

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [5, 6, 7]]
SAMPLED = SamplingParams(temperature=0.7, top_p=0.9, top_k=20, max_tokens=20)
STOPS = tuple(range(1, 48, 6))


def model_of(config) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


OTHERS = {
    "its attention is not behind transformers' interface": BloomConfig(
        vocab_size=48, hidden_size=32, n_layer=2, n_head=4
    ),
    "it has layers of sliding_attention": Gemma2Config(**SHAPE, head_dim=8),
    "its attention has a sliding window": MistralConfig(**SHAPE, sliding_window=16),
}


class Shifted(Qwen2ForCausalLM):
    """A model whose positions are counted in a way of its own."""

    def forward(self, *arguments, position_ids=None, **settings):
        if position_ids is not None:
            position_ids = position_ids * 2
        return super().forward(*arguments, position_ids=position_ids, **settings)


def test_common_architectures_get_the_engine(any_model: PreTrainedModel) -> None:
    said: list[str] = []
    assert isinstance(make_sampler(any_model, stop_tokens=STOPS, slots=8, say=said.append), SlotEngine)
    assert said == []


@pytest.mark.parametrize("reason", OTHERS)
def test_any_other_model_falls_back_to_generate_with_one_clear_line(reason: str) -> None:
    model, said = model_of(OTHERS[reason]), []
    sampler = make_sampler(model, stop_tokens=STOPS, slots=8, say=said.append)
    assert isinstance(sampler, GenerateSampler)
    assert said == [f"note: {type(model).__name__} is decoded by generate, which is slower: {reason}"]
    assert len(sampler.sample(PROMPTS, SAMPLED, seed=0)) == len(PROMPTS)


def test_a_model_that_the_engine_would_decode_wrongly_is_found_by_a_trial() -> None:
    torch.manual_seed(0)
    model = Shifted(Qwen2Config(**SHAPE)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8.0 if parameter.dim() > 1 else 1.0)
    assert str(obstacle(model, trial)).startswith("in a trial it was off by ")


def test_rounding_of_large_logits_in_bfloat16_is_no_obstacle() -> None:
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**{**SHAPE, "num_hidden_layers": 8})).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(400.0)
    model = model.bfloat16()
    error, largest = trial(model)
    assert largest > 50
    assert error > 0
    assert obstacle(model, trial) is None


def test_both_samplers_draw_the_same_tokens_with_the_same_logprobs(any_model: PreTrainedModel) -> None:
    fast = SlotEngine(any_model, stop_tokens=STOPS, slots=3).sample(PROMPTS * 3, SAMPLED, seed=7)
    plain = GenerateSampler(any_model, stop_tokens=STOPS, batch_size=5).sample(PROMPTS * 3, SAMPLED, seed=7)
    for a, b in zip(fast, plain, strict=True):
        assert (a.tokens, a.truncated) == (b.tokens, b.truncated)
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
