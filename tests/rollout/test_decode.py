import pytest
import torch
from transformers import PreTrainedModel

from fipo.rollout.decode import DecodeLoop, choose, nucleus
from fipo.rollout.sampler import SamplingParams

PROMPTS = [[5, 6, 7], [8], [9, 10, 11, 12, 13], [14, 15]]
GREEDY = SamplingParams(temperature=0.0, max_tokens=20)
SAMPLED = SamplingParams(temperature=0.7, max_tokens=20)


def loop(model: PreTrainedModel, stop_tokens: tuple[int, ...] = (1,), batch_size: int = 64) -> DecodeLoop:
    return DecodeLoop(model, stop_tokens=stop_tokens, batch_size=batch_size)


def often_stopping(model: PreTrainedModel) -> DecodeLoop:
    """A loop with so many stop tokens that rows leave the batch at different times."""
    return loop(model, stop_tokens=tuple(range(1, 48, 6)))


def forward_logprobs(model: PreTrainedModel, prompt: list[int], tokens: list[int], temperature: float) -> torch.Tensor:
    """The log-probs of `tokens` after `prompt` by one fresh forward pass without a cache."""
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([prompt + tokens]), use_cache=False).logits[0, len(prompt) - 1 : -1]
    logprobs = torch.log_softmax(logits / temperature, -1)
    return logprobs.gather(-1, torch.tensor(tokens)[:, None])[:, 0]


def test_greedy_tokens_equal_those_of_generate(any_model: PreTrainedModel) -> None:
    responses = loop(any_model).sample(PROMPTS, GREEDY, seed=0)
    for prompt, response in zip(PROMPTS, responses, strict=True):
        expected = any_model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False, max_new_tokens=20
        )
        assert response.tokens == expected[0, len(prompt) :].tolist()


def test_reported_logprobs_equal_those_of_a_fresh_forward_pass(any_model: PreTrainedModel) -> None:
    for response, prompt in zip(often_stopping(any_model).sample(PROMPTS, SAMPLED, seed=3), PROMPTS, strict=True):
        expected = forward_logprobs(any_model, prompt, response.tokens, SAMPLED.temperature)
        torch.testing.assert_close(torch.tensor(response.logprobs), expected, atol=1e-5, rtol=0)


def test_a_response_ends_with_its_first_stop_token_and_is_truncated_only_without_one(model: PreTrainedModel) -> None:
    sampler = often_stopping(model)
    stops = set(sampler.stop_tokens.tolist())
    responses = sampler.sample(PROMPTS * 8, SamplingParams(temperature=1.0, max_tokens=4), seed=1)
    assert {response.truncated for response in responses} == {True, False}
    for response in responses:
        assert len(response.tokens) == len(response.logprobs)
        assert not stops & set(response.tokens[:-1])
        assert response.truncated == (response.tokens[-1] not in stops)
        assert len(response.tokens) == 4 or not response.truncated


def test_the_same_seed_gives_the_same_responses_and_another_seed_others(model: PreTrainedModel) -> None:
    first, again, other = (loop(model).sample(PROMPTS, SAMPLED, seed=seed) for seed in (0, 0, 1))
    assert first == again
    assert first != other


def test_rows_that_finish_do_not_change_the_tokens_of_the_others(model: PreTrainedModel) -> None:
    free = loop(model, stop_tokens=()).sample(PROMPTS * 4, SAMPLED, seed=0)
    sampler = often_stopping(model)
    stops = set(sampler.stop_tokens.tolist())
    for unstopped, stopped in zip(free, sampler.sample(PROMPTS * 4, SAMPLED, seed=0), strict=True):
        assert stopped.tokens == unstopped.tokens[: len(stopped.tokens)]
        assert stopped.truncated or stopped.tokens[-1] in stops


def test_a_small_decode_batch_still_answers_every_prompt_in_order(model: PreTrainedModel) -> None:
    responses = loop(model, batch_size=3).sample(PROMPTS * 2, GREEDY, seed=0)
    assert [r.tokens for r in responses] == [r.tokens for r in loop(model).sample(PROMPTS * 2, GREEDY, seed=0)]


def test_sampled_frequencies_pass_a_chi_square_test() -> None:
    probs = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05])
    draws = 20_000
    uniforms = torch.rand(draws, generator=torch.Generator().manual_seed(0))
    chosen, _ = choose(probs.log().expand(draws, -1), SamplingParams(temperature=1.0, max_tokens=1), uniforms)
    expected = probs * draws
    chi_square = float(((chosen.bincount(minlength=5) - expected) ** 2 / expected).sum())
    assert chi_square < 18.47  # 99.9% quantile with 4 degrees of freedom


def test_temperature_sharpens_the_distribution_that_is_sampled_and_reported() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    _, logprob = choose(logits, SamplingParams(temperature=0.5, max_tokens=1), torch.tensor([0.0]))
    torch.testing.assert_close(logprob, torch.log_softmax(logits / 0.5, -1)[:, 0])


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-24])
def test_a_token_of_probability_zero_is_never_drawn(uniform: float) -> None:
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf"), 1.0, float("-inf")]])
    chosen, _ = choose(logits, SamplingParams(temperature=1.0, max_tokens=1), torch.tensor([uniform]))
    assert int(chosen) in (1, 3)


def test_the_nucleus_is_the_smallest_set_of_likeliest_tokens_that_holds_top_p() -> None:
    probs = torch.tensor([[0.1, 0.5, 0.05, 0.35]], dtype=torch.float64)
    assert nucleus(probs, 0.5).nonzero()[:, 1].tolist() == [1]
    assert nucleus(probs, 0.51).nonzero()[:, 1].tolist() == [1, 3]
    assert nucleus(probs, 0.9).nonzero()[:, 1].tolist() == [0, 1, 3]
    torch.testing.assert_close(nucleus(probs, 1.0), probs)


def test_top_p_leaves_the_reported_logprobs_those_of_the_whole_distribution(model: PreTrainedModel) -> None:
    params = SamplingParams(temperature=1.0, top_p=0.5, max_tokens=8)
    for prompt, response in zip(PROMPTS, loop(model).sample(PROMPTS, params, seed=0), strict=True):
        expected = forward_logprobs(model, prompt, response.tokens, 1.0)
        torch.testing.assert_close(torch.tensor(response.logprobs), expected, atol=1e-5, rtol=0)
