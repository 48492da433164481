import gc
import warnings
import weakref

import pytest
import torch
from tests.conftest import random_model
from transformers import AutoModelForCausalLM, GPT2Config, PreTrainedModel

from fipo.errors import RunStopped
from fipo.rollout.engine import slot_engine, slots
from fipo.rollout.engine.slot_engine import STEPS, SlotEngine
from fipo.rollout.engine.slots import LEAST_SHARED
from fipo.rollout.sampler import SamplingParams

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [14, 15], [5, 6, 7]]
GREEDY = SamplingParams(temperature=0.0, max_tokens=20)
SAMPLED = SamplingParams(temperature=0.7, max_tokens=20)
MANY_STOPS = tuple(range(1, 48, 6))  # rows finish at different times


def engine(model: PreTrainedModel, stop_tokens: tuple[int, ...] = (1,), slots: int = 64) -> SlotEngine:
    return SlotEngine(model, stop_tokens=stop_tokens, slots=slots)


def forward_logprobs(model: PreTrainedModel, prompt: list[int], tokens: list[int], temperature: float) -> torch.Tensor:
    """The log-probs of `tokens` after `prompt` by one fresh forward pass without a cache."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + tokens]), use_cache=False).logits[0, len(prompt) - 1 : -1]
    return torch.log_softmax(logits / temperature, -1).gather(-1, torch.tensor(tokens)[:, None])[:, 0]


@pytest.mark.parametrize("slots", [1, 3, 64])
def test_greedy_tokens_equal_those_of_generate(any_model: PreTrainedModel, slots: int) -> None:
    responses = engine(any_model, slots=slots).sample(PROMPTS, GREEDY, seed=0)
    for prompt, response in zip(PROMPTS, responses, strict=True):
        expected = any_model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False, max_new_tokens=20
        )
        assert response.tokens == expected[0, len(prompt) :].tolist()


@pytest.mark.parametrize("slots", [2, 64])
def test_reported_logprobs_equal_those_of_a_fresh_forward_pass(any_model: PreTrainedModel, slots: int) -> None:
    sampler = engine(any_model, MANY_STOPS, slots)
    prompts = PROMPTS * 3
    for response, prompt in zip(sampler.sample(prompts, SAMPLED, seed=3), prompts, strict=True):
        expected = forward_logprobs(any_model, prompt, response.tokens, SAMPLED.temperature)
        torch.testing.assert_close(torch.tensor(response.logprobs), expected, atol=1e-5, rtol=0)


def test_no_argument_of_a_forward_pass_is_deprecated(any_model: PreTrainedModel) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", FutureWarning)
        engine(any_model).sample(PROMPTS, GREEDY, seed=0)


def test_what_all_prompts_begin_with_is_read_once_and_changes_nothing(
    any_model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    examples = [2 + i % 40 for i in range(LEAST_SHARED + 2)]
    prompts = [examples + prompt for prompt in PROMPTS]
    read: list[int] = []
    forward = slots._forward
    monkeypatch.setattr(slots, "_forward", lambda m, rows, head: read.extend(map(len, rows)) or forward(m, rows, head))
    responses = engine(any_model, MANY_STOPS).sample(prompts, SAMPLED, seed=3)
    assert sum(read) < 2 * LEAST_SHARED
    for response, prompt in zip(responses, prompts, strict=True):
        expected = forward_logprobs(any_model, prompt, response.tokens, SAMPLED.temperature)
        torch.testing.assert_close(torch.tensor(response.logprobs), expected, atol=1e-5, rtol=0)


def test_top_p_and_top_k_leave_the_policys_logprobs_those_of_the_whole_distribution(model: PreTrainedModel) -> None:
    params = SamplingParams(temperature=1.0, top_p=0.5, top_k=9, max_tokens=8)
    for prompt, response in zip(PROMPTS, engine(model).sample(PROMPTS, params, seed=0), strict=True):
        expected = forward_logprobs(model, prompt, response.tokens, 1.0)
        torch.testing.assert_close(torch.tensor(response.logprobs), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("slots", [1, 2, 5, 7, 19])
def test_a_response_depends_on_the_seed_and_its_place_and_not_on_the_slots(model: PreTrainedModel, slots: int) -> None:
    prompts = PROMPTS * 4
    free = engine(model, MANY_STOPS).sample(prompts, SAMPLED, seed=0)
    assert [r.tokens for r in engine(model, MANY_STOPS, slots).sample(prompts, SAMPLED, seed=0)] == [
        r.tokens for r in free
    ]
    assert len({len(response.tokens) for response in free}) > 3


def test_what_is_sampled_beside_a_response_does_not_change_it(model: PreTrainedModel) -> None:
    whole = engine(model, MANY_STOPS).sample(PROMPTS * 4, SAMPLED, seed=0)
    part = engine(model, MANY_STOPS).sample((PROMPTS * 4)[:7], SAMPLED, seed=0)
    assert [r.tokens for r in part] == [r.tokens for r in whole[:7]]


def test_the_same_seed_gives_the_same_responses_and_another_seed_others(model: PreTrainedModel) -> None:
    first, again, other = (engine(model).sample(PROMPTS, SAMPLED, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_a_response_ends_with_its_first_stop_token_and_is_truncated_only_without_one(model: PreTrainedModel) -> None:
    params = SamplingParams(temperature=1.0, max_tokens=4)
    responses = engine(model, MANY_STOPS, slots=6).sample(PROMPTS * 8, params, seed=1)
    assert {response.truncated for response in responses} == {True, False}
    for response in responses:
        assert len(response.tokens) == len(response.logprobs)
        assert not set(MANY_STOPS) & set(response.tokens[:-1])
        assert response.truncated == (response.tokens[-1] not in MANY_STOPS)
        assert len(response.tokens) == 4 or not response.truncated


@pytest.mark.parametrize("steps", [3, 16])
@pytest.mark.parametrize("slots", [1, 3, 19])
def test_several_tokens_between_two_looks_are_the_same_tokens(
    model: PreTrainedModel, slots: int, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = PROMPTS * 4
    one_by_one = engine(model, MANY_STOPS, slots).sample(prompts, SAMPLED, seed=0)
    monkeypatch.setitem(STEPS, "cpu", steps)
    for response, expected in zip(
        engine(model, MANY_STOPS, slots).sample(prompts, SAMPLED, 0), one_by_one, strict=True
    ):
        assert (response.tokens, response.truncated) == (expected.tokens, expected.truncated)
        assert response.logprobs == pytest.approx(expected.logprobs, abs=1e-5)


def test_no_token_is_fed_beyond_the_last_position_that_a_response_may_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """GPT-2 looks positions up in a table, which ends there."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=48, n_embd=32, n_layer=1, n_head=4, n_positions=24)
    monkeypatch.setitem(STEPS, "cpu", 16)
    sampler = engine(AutoModelForCausalLM.from_config(config).eval(), (), slots=2)
    responses = sampler.sample([[5, 6, 7, 8], [9]], GREEDY, seed=0)
    assert [len(response.tokens) for response in responses] == [20, 20]


def test_the_cache_is_allocated_once_and_reused_by_smaller_calls(model: PreTrainedModel) -> None:
    sampler = engine(model, slots=4)
    fresh = [r.tokens for r in engine(model, slots=4).sample(PROMPTS[:2], SAMPLED, seed=5)]
    sampler.sample(PROMPTS * 2, GREEDY, seed=0)
    storage = sampler._recorder.cache.storage.data_ptr()
    assert [r.tokens for r in sampler.sample(PROMPTS[:2], SAMPLED, seed=5)] == fresh
    assert sampler._recorder.cache.storage.data_ptr() == storage


def test_memory_that_was_reserved_holds_every_slot_at_its_longest(model: PreTrainedModel) -> None:
    sampler = engine(model, slots=4)
    sampler.reserve(max(map(len, PROMPTS)) + SAMPLED.max_tokens)
    storage = sampler._recorder.cache.storage.data_ptr()
    fresh = engine(model, slots=4).sample(PROMPTS * 2, SAMPLED, seed=5)
    assert sampler.sample(PROMPTS * 2, SAMPLED, seed=5) == fresh
    assert sampler._recorder.cache.storage.data_ptr() == storage


def test_a_cache_that_is_too_small_is_given_up_before_a_larger_one_is_made(model: PreTrainedModel) -> None:
    sampler = engine(model)
    sampler.sample(PROMPTS, GREEDY, seed=0)
    storage = weakref.ref(sampler._recorder.cache.storage)
    gc.disable()
    try:
        sampler._recorder_for(len(PROMPTS), 512)
    finally:
        gc.enable()
    assert storage() is None


def test_earlier_calls_do_not_change_a_single_bit_of_later_ones(model: PreTrainedModel) -> None:
    fresh = engine(model).sample(PROMPTS, SAMPLED, seed=1)
    sampler = engine(model)
    sampler.sample([list(range(2, 42))] * 9, SamplingParams(temperature=0.7, max_tokens=60), seed=0)
    assert sampler.sample(PROMPTS, SAMPLED, seed=1) == fresh


def test_the_model_is_left_as_it_was(model: PreTrainedModel) -> None:
    before = model.config._attn_implementation
    engine(model).sample(PROMPTS, GREEDY, seed=0)
    assert model.config._attn_implementation == before == "sdpa"
    loss = model(input_ids=torch.tensor([[3, 4, 5]])).logits.sum()
    loss.backward()  # nothing of inference mode is left in it


def test_no_prompts_give_no_responses(model: PreTrainedModel) -> None:
    assert engine(model).sample([], SAMPLED, seed=0) == []


def test_weights_that_are_not_finite_stop_the_sampling() -> None:
    model = random_model()
    with torch.no_grad():
        model.model.norm.weight[0] = float("nan")
    with pytest.raises(RunStopped, match="log-probs must be finite"):
        engine(model).sample(PROMPTS, SAMPLED, seed=0)


@pytest.mark.parametrize(("steps", "beats"), [(1, 20), (8, 3)])
def test_every_look_at_new_tokens_is_a_sign_of_life(
    model: PreTrainedModel, steps: int, beats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(STEPS, "cpu", steps)
    heard: list[int] = []
    listening = SlotEngine(model, stop_tokens=(), slots=64, beat=lambda done, total: heard.append(done))
    listening.sample(PROMPTS, SAMPLED, seed=0)
    assert len(heard) == beats
    assert heard == sorted(heard) and heard[-1] == len(PROMPTS)


def test_an_engine_whose_memory_was_given_back_samples_the_same(model: PreTrainedModel) -> None:
    sampler = engine(model)
    first = sampler.sample(PROMPTS, SAMPLED, seed=0)
    storage = weakref.ref(sampler._recorder.cache.storage)
    sampler.release()
    gc.collect()
    assert storage() is None
    assert sampler.sample(PROMPTS, SAMPLED, seed=0) == first


def test_prompts_are_read_ahead_up_to_so_many_tokens(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []

    def counting(model, prompts, tokens):
        read.append(sum(map(len, prompts)))
        return slots.prefill(model, prompts, tokens)

    prompts = [[2 + i, 3 + i, 4 + i, 5 + i, 6 + i] for i in range(12)]
    all_ahead = engine(model, slots=2).sample(prompts, SAMPLED, seed=0)
    monkeypatch.setattr(slot_engine, "prefill", counting)
    monkeypatch.setattr(slot_engine, "PREFILL_TOKENS", 20)
    assert engine(model, slots=2).sample(prompts, SAMPLED, seed=0) == all_ahead
    assert max(read) == 20
    assert sum(read) == 60
