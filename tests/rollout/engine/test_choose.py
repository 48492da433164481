import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fipo.rollout.engine.choose import BLOCK, HEAD, choose, inverse_cdf, likeliest, nucleus
from fipo.rollout.sampler import SamplingParams


def params(**values: float) -> SamplingParams:
    return SamplingParams(**{"temperature": 1.0, "max_tokens": 1, **values})


@pytest.mark.parametrize("words", [5, BLOCK, 3 * BLOCK + 7])
def test_sampled_frequencies_pass_a_chi_square_test(words: int) -> None:
    probs = torch.rand(words, generator=torch.Generator().manual_seed(words)) ** 4 + 1e-3
    probs /= probs.sum()
    draws = 100 * words
    uniforms = torch.rand(draws, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    tokens = choose(probs.log().expand(draws, -1), params(), uniforms).tokens
    expected = probs * draws
    chi_square = float(((tokens.bincount(minlength=words) - expected) ** 2 / expected).sum())
    freedom = words - 1
    assert chi_square < freedom + 3.1 * (2 * freedom) ** 0.5 + 6.4  # above the 99.9% quantile for any freedom


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.integers(1, 3 * BLOCK), st.integers(0, 2**32), st.floats(0, 1, exclude_max=True))
def test_two_stages_choose_the_word_at_which_the_whole_running_sum_passes(words: int, seed: int, u: float) -> None:
    probs = torch.rand(1, words, generator=torch.Generator().manual_seed(seed))
    probs[probs < 0.3] = 0
    probs[0, seed % words] = 0.5
    word = int(inverse_cdf(probs, torch.tensor([u], dtype=torch.float64)))
    running = probs[0].double().cumsum(0)
    goal = u * float(running[-1])
    assert probs[0, word] > 0
    assert float(running[word]) >= goal - 1e-9
    assert word == 0 or float(running[word - 1]) <= goal + 1e-9


@pytest.mark.parametrize("uniform", [0.0, 0.5, 1 - 2**-53])
def test_a_token_of_probability_zero_is_never_drawn(uniform: float) -> None:
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf"), 1.0, float("-inf")]])
    assert int(choose(logits, params(), torch.tensor([uniform], dtype=torch.float64)).tokens) in (1, 3)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    logits = torch.randn(6, 600, generator=torch.Generator().manual_seed(1)) * 3
    uniforms = torch.rand(6, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    together = choose(logits, params(top_p=0.8, top_k=50), uniforms).tokens
    alone = [int(choose(logits[i : i + 1], params(top_p=0.8, top_k=50), uniforms[i : i + 1]).tokens) for i in range(6)]
    assert together.tolist() == alone


def test_temperature_sharpens_the_distribution_that_is_sampled_and_reported() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0]])
    choice = choose(logits, params(temperature=0.5), torch.tensor([0.0]))
    torch.testing.assert_close(choice.logprobs, torch.log_softmax(logits / 0.5, -1)[:, 0])


def test_greedy_takes_the_likeliest_token_and_reports_the_policy_at_temperature_one() -> None:
    logits = torch.tensor([[2.0, 3.0, 0.0]])
    choice = choose(logits, params(temperature=0.0), torch.tensor([0.99]))
    assert int(choice.tokens) == 1
    torch.testing.assert_close(choice.logprobs, torch.log_softmax(logits, -1)[:, 1])


def test_the_nucleus_is_the_smallest_set_of_likeliest_tokens_that_holds_top_p() -> None:
    probs = torch.tensor([[0.1, 0.5, 0.05, 0.35]], dtype=torch.float64)
    assert nucleus(probs, 0.5).nonzero()[:, 1].tolist() == [1]
    assert nucleus(probs, 0.51).nonzero()[:, 1].tolist() == [1, 3]
    assert nucleus(probs, 0.9).nonzero()[:, 1].tolist() == [0, 1, 3]
    torch.testing.assert_close(nucleus(probs, 1.0), probs)


def sorted_nucleus(probs: torch.Tensor, top_p: float) -> torch.Tensor:
    """The rule as it reads: all words in float64, the likeliest first, until they hold `top_p`."""
    ordered, order = probs.double().sort(dim=-1, descending=True, stable=True)
    outside = ordered.cumsum(-1) - ordered >= top_p * ordered.sum(-1, keepdim=True)
    return probs.masked_fill(outside.gather(-1, order.argsort(-1)), 0.0)


@pytest.mark.parametrize("top_p", [0.05, 0.3, 0.7, 0.95, 0.999, 1 - 1e-9])
@pytest.mark.parametrize("words", [7, BLOCK, 8 * HEAD, 8 * HEAD + 1, 20_000])
@pytest.mark.parametrize("sharpness", [0.1, 2.0, 6.0, 20.0])
def test_the_nucleus_is_to_the_bit_that_of_all_words_sorted(words: int, top_p: float, sharpness: float) -> None:
    logits = torch.randn(3, words, generator=torch.Generator().manual_seed(words)) * sharpness
    for probs in (logits.softmax(-1), (logits.round() / 2).softmax(-1)):  # of the latter many are equally likely
        assert torch.equal(nucleus(probs, top_p), sorted_nucleus(probs, top_p))


def test_top_k_keeps_the_likeliest_tokens() -> None:
    probs = torch.tensor([[0.1, 0.5, 0.05, 0.35]])
    assert likeliest(probs, 1).nonzero()[:, 1].tolist() == [1]
    assert likeliest(probs, 3).nonzero()[:, 1].tolist() == [0, 1, 3]
    assert torch.equal(likeliest(probs, 4), probs)


def test_a_top_k_that_keeps_all_words_is_none() -> None:
    assert [params(top_k=k).of(4).top_k for k in (0, 3, 4, 9)] == [0, 3, 0, 0]


@pytest.mark.parametrize("limits", [{"top_k": 3}, {"top_p": 0.7}, {"top_k": 4, "top_p": 0.8}])
def test_what_is_drawn_has_the_policys_distribution_over_the_tokens_that_the_limits_keep(
    limits: dict[str, float],
) -> None:
    logits = torch.randn(1, 8, generator=torch.Generator().manual_seed(3)) * 2
    draws = 20_000
    uniforms = torch.rand(draws, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    choice = choose(logits.expand(draws, -1), params(**limits), uniforms)
    reported = dict(zip(choice.tokens.tolist(), choice.logprobs.exp().tolist(), strict=True))
    kept = sum(reported.values())
    assert len(reported) < 8 and kept < 1
    for token, probability in ((token, policy / kept) for token, policy in reported.items()):
        share = float((choice.tokens == token).float().mean())
        assert share == pytest.approx(probability, abs=4 * (probability * (1 - probability) / draws) ** 0.5 + 1e-9)
    torch.testing.assert_close(choice.logprobs[0], logits.log_softmax(-1)[0, choice.tokens[0]])
