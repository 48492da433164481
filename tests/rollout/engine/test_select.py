import pytest
import torch
from tests.conftest import SHAPE, random_model, tuned_llama4
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    LlamaConfig,
    Ministral3Config,
    MistralConfig,
    Phi3Config,
    PhimoeConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    RobertaConfig,
    RwkvConfig,
)

from fipo.errors import UserError
from fipo.models.attention import obstacle
from fipo.rollout.engine.generate import GenerateSampler
from fipo.rollout.engine.select import make_sampler
from fipo.rollout.engine.slot_engine import SlotEngine
from fipo.rollout.engine.trial import compare, reach
from fipo.rollout.sampler import Response, Sampler, SamplingParams

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [5, 6, 7]]
UNEVEN = [[2 + (5 * i) % 40 for i in range(length)] for length in (3, 5, 20, 33, 40, 12)]
SAMPLED = SamplingParams(temperature=0.7, top_p=0.9, top_k=20, max_tokens=20)
STOPS = list(range(1, 48, 6))
CHANGES = {"original_max_position_embeddings": 48, "rope_theta": 10000.0}  # of a rotary embedding, beyond 48 tokens
LONG_ROPE = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [1.0, 4.0, 8.0, 16.0], **CHANGES}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, **CHANGES}


def model_of(config, scale: float = 3.0) -> PreTrainedModel:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "norm" not in name:
                parameter.mul_(scale)
    return model


def largest_gap(model: PreTrainedModel, prompts: list[list[int]], responses: list[Response]) -> float:
    """Between log-probs that were reported at temperature 1 and those of a fresh pass over each sequence alone."""
    gap = 0.0
    for prompt, response in zip(prompts, responses, strict=True):
        ids = torch.tensor([prompt + response.tokens])
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1]
        fresh = logits.log_softmax(-1).gather(-1, ids[0, len(prompt) :, None])[:, 0]
        gap = max(gap, float((fresh - torch.tensor(response.logprobs)).abs().max()))
    return gap


def gap_beyond_the_lengths_at_which_models_change(model: PreTrainedModel, sampler: Sampler) -> float:
    params = SamplingParams(temperature=1.0, max_tokens=70)
    return largest_gap(model, UNEVEN, sampler.sample(UNEVEN, params, seed=7))


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


class Anchored(Qwen2ForCausalLM):
    """A model that looks at the whole row: no sampler can decode what it computes at once."""

    def forward(self, input_ids=None, **settings):
        out = super().forward(input_ids=input_ids, **settings)
        out.logits = out.logits * (1 + input_ids.shape[1])
        return out


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
    assert gap_beyond_the_lengths_at_which_models_change(model, sampler) < 1e-5


def test_a_model_that_the_engine_would_decode_wrongly_is_found_by_a_trial() -> None:
    torch.manual_seed(0)
    model = Shifted(Qwen2Config(**SHAPE)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8.0 if parameter.dim() > 1 else 1.0)
    engine = SlotEngine(model, stop_tokens=[], slots=8)
    assert str(obstacle(model, lambda: compare(model, engine, 64, SAMPLED, 8))).startswith("in a trial with ")


def test_rounding_of_large_logits_in_bfloat16_is_no_obstacle() -> None:
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**{**SHAPE, "num_hidden_layers": 8})).eval()
    with torch.no_grad():
        model.lm_head.weight.mul_(400.0)
    model = model.bfloat16()
    engine = SlotEngine(model, stop_tokens=[], slots=8)
    compared = compare(model, engine, 64, SAMPLED, 8)
    assert max(one.largest for one in compared) > 50
    assert max(one.error for one in compared) > 0
    assert obstacle(model, lambda: compared) is None


@pytest.mark.parametrize("temperature", [1e-3, 50.0])
def test_no_temperature_makes_rounding_look_like_another_model(temperature: float) -> None:
    params, said = SamplingParams(temperature=temperature, top_p=0.9, top_k=5, max_tokens=9), []
    sampler = make_sampler(random_model(), stop_tokens=STOPS, slots=8, params=params, say=said.append)
    assert isinstance(sampler, SlotEngine)
    assert said == []


def test_the_trial_does_not_end_at_a_stop_token_and_the_sampler_does() -> None:
    sampler = make_sampler(random_model(), stop_tokens=list(range(48)), slots=8)
    assert [len(response.tokens) for response in sampler.sample(PROMPTS, SAMPLED, seed=0)] == [1] * 4


def test_padding_that_a_model_does_not_ignore_is_never_there() -> None:
    model = model_of(RwkvConfig(vocab_size=48, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32))
    said: list[str] = []
    sampler = make_sampler(model, stop_tokens=[1], slots=4, longest=256, say=said.append)
    [line] = said
    assert line.startswith(
        "note: RwkvForCausalLM is decoded by generate, which is slower: its attention is not behind transformers' "
        "interface; prompts of one length at a time: padded, in a trial with "
    )
    assert gap_beyond_the_lengths_at_which_models_change(model, sampler) < 1e-4


def test_a_trial_passes_each_length_at_which_a_model_changes_and_its_double() -> None:
    config = MistralConfig(**SHAPE, sliding_window=60)
    assert reach(config, longest=200) == [44, 64, 124, 132]
    assert reach(config, longest=100) == [44, 64, 100]


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_attention_that_is_scaled_by_the_place_in_the_row_is_decoded_without_padding(scale: float) -> None:
    """Llama 4's layers without rotary embedding, beyond `floor_scale` tokens: a trial alone may not see it."""
    model, said = model_of(tuned_llama4(), scale), []
    sampler = make_sampler(model, stop_tokens=[1], slots=4, say=said.append)
    assert said == [
        "note: Llama4ForCausalLM is decoded by generate, which is slower: it scales its attention by a token's place "
        "in the row"
    ]
    assert isinstance(sampler, GenerateSampler) and not sampler.mixed
    assert gap_beyond_the_lengths_at_which_models_change(model, sampler) < 1e-5


def test_attention_that_is_scaled_by_the_position_that_is_given_gets_the_engine() -> None:
    """Ministral's, beyond `original_max_position_embeddings` tokens."""
    yarn = {"rope_type": "yarn", "factor": 4.0, "beta_fast": 32.0, "beta_slow": 1.0, "llama_4_scaling_beta": 0.5}
    config = Ministral3Config(**{**SHAPE, "head_dim": 8}, rope_parameters={**yarn, **CHANGES}, sliding_window=None)
    model = model_of(config)
    sampler = make_sampler(model, stop_tokens=[1], slots=4)
    assert isinstance(sampler, SlotEngine)
    assert gap_beyond_the_lengths_at_which_models_change(model, sampler) < 1e-5


@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SHAPE, rope_parameters={**LONG_ROPE}),
        LlamaConfig(**{**SHAPE, "max_position_embeddings": 48}, rope_parameters={**DYNAMIC}),
        Phi3Config(**SHAPE, rope_parameters={**LONG_ROPE}, original_max_position_embeddings=48),
    ],
    ids=["longrope", "dynamic", "phi3"],
)
def test_a_rotary_embedding_that_depends_on_the_longest_row_is_one_for_the_whole_run(config) -> None:
    model, said = model_of(config), []
    sampler = make_sampler(model, stop_tokens=[1], slots=4, longest=110, say=said.append)
    assert isinstance(sampler, SlotEngine)
    name = type(model).__name__
    assert said == [
        f"note: {name}'s rotary embedding depends on the longest sequence of a batch: from now on it is that of "
        "110 tokens, the most that prompt and response may have"
    ]
    assert gap_beyond_the_lengths_at_which_models_change(model, sampler) < 1e-5


def test_a_run_that_stays_below_the_change_keeps_the_embedding_and_hears_nothing() -> None:
    model, said = model_of(LlamaConfig(**SHAPE, rope_parameters={**LONG_ROPE})), []
    ids = torch.tensor([UNEVEN[4]])
    before = model(input_ids=ids).logits
    make_sampler(model, stop_tokens=[1], slots=4, longest=48, say=said.append)
    assert said == []
    assert torch.equal(model(input_ids=ids).logits, before)


def test_a_model_that_no_sampler_can_decode_is_refused_with_the_length_at_which_it_differs() -> None:
    scaling = {"short_mscale": 1.0, "long_mscale": 1.2}
    config = PhimoeConfig(**SHAPE, rope_parameters={**LONG_ROPE, **scaling}, original_max_position_embeddings=48)
    with pytest.raises(UserError, match=r"^model.path: PhimoeForCausalLM cannot be sampled as it is .* with 52 tokens"):
        make_sampler(model_of(config), stop_tokens=[1], slots=4)
    make_sampler(model_of(config), stop_tokens=[1], slots=4, longest=48)


@pytest.mark.parametrize("kind", [Anchored, RobertaConfig])
def test_a_model_whose_generate_is_another_one_is_refused_in_one_line(kind) -> None:
    shape = {**SHAPE, "bos_token_id": 2}
    model = Anchored(Qwen2Config(**SHAPE)).eval() if kind is Anchored else model_of(kind(**shape, is_decoder=True))
    with pytest.raises(UserError, match=r"cannot be sampled as it is trained: decoded by generate, in a trial") as info:
        make_sampler(model, stop_tokens=[1], slots=4)
    assert "\n" not in str(info.value)


def test_damaged_weights_are_refused_before_the_run() -> None:
    model = random_model()
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    with pytest.raises(UserError, match="log-probs must be finite, got NaN or inf"):
        make_sampler(model, stop_tokens=[1], slots=4)


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError(), RuntimeError("std::bad_alloc")]
)
def test_running_out_of_memory_is_not_taken_for_an_obstacle(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(SlotEngine, "sample", full)
    with pytest.raises(type(error)):
        make_sampler(random_model(), stop_tokens=[1], slots=4)


def test_both_samplers_draw_the_same_tokens_with_the_same_logprobs(any_model: PreTrainedModel) -> None:
    fast = SlotEngine(any_model, stop_tokens=STOPS, slots=3).sample(PROMPTS * 3, SAMPLED, seed=7)
    for mixed in (True, False):
        plain = GenerateSampler(any_model, stop_tokens=STOPS, batch_size=5, mixed=mixed)
        for a, b in zip(fast, plain.sample(PROMPTS * 3, SAMPLED, seed=7), strict=True):
            assert (a.tokens, a.truncated) == (b.tokens, b.truncated)
            assert a.logprobs == pytest.approx(b.logprobs, abs=1e-4)
