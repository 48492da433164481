import random
from collections import Counter
from itertools import combinations, permutations
from math import prod, sqrt
from statistics import NormalDist, fmean

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fipo.evaluation import avg_at_k, cons_at_k, interval, pass_at_k
from fipo.evaluation.estimators import Z95, pass_at_k_by_problem

few = settings(derandomize=True, deadline=None, max_examples=60)
rows_of_7 = st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=1, max_size=4)


def test_avg_at_k_is_the_mean_of_the_problems_shares():
    assert avg_at_k([[True, False], [True, True], [False, False]]) == 0.5
    assert avg_at_k([[True], [False, False, False]]) == 0.5  # problems count alike, not samples


@few
@given(correct=rows_of_7, k=st.integers(1, 7))
def test_pass_at_k_is_the_share_of_the_subsets_of_k_samples_with_a_correct_one(correct, k):
    by_problem = [fmean(any(subset) for subset in combinations(row, k)) for row in correct]
    assert pass_at_k_by_problem(correct, k) == pytest.approx(by_problem)
    assert pass_at_k(correct, k) == pytest.approx(fmean(by_problem))


@few
@given(correct=rows_of_7)
def test_pass_at_1_is_avg_at_k_and_pass_at_all_is_whether_any_is_correct(correct):
    assert pass_at_k(correct, 1) == pytest.approx(avg_at_k(correct))
    assert pass_at_k(correct, 7) == pytest.approx(fmean(any(row) for row in correct))


@few
@given(correct=rows_of_7)
def test_pass_at_k_never_falls_as_k_grows(correct):
    values = [pass_at_k(correct, k) for k in range(1, 8)]
    assert values == sorted(values)


@pytest.mark.parametrize("k", [1, 10, 100])
def test_pass_at_k_equals_the_product_that_codex_evaluates(k):
    """Chen et al. 2021, Figure 3: 1 - prod(1 - k / i) over i from n - c + 1 to n."""
    misses = prod(1 - k / i for i in range(200 - 20 + 1, 200 + 1))
    assert pass_at_k([[True] * 20 + [False] * 180], k) == pytest.approx(1 - misses)


# answers, which are correct, the share of the vote that is right
VOTES = [
    (["4", "4", "5"], [True, True, False], 1.0),
    (["4", "5", "5"], [True, False, False], 0.0),
    (["4", "5"], [True, False], 0.5),  # a tie
    (["4", "4", "5", "5", "6"], [True, True, False, False, False], 0.5),
    (["4", "5", "6"], [True, False, False], 1 / 3),
    (["4", "04", "5", "6"], [True, True, False, False], 0.5),  # two winners are right
    ([None, None, "4"], [False, False, True], 1.0),  # no answer never wins
    ([None, "4", "5"], [False, True, False], 0.5),
    ([None, None], [False, False], 0.0),
    (["4"], [True], 1.0),
    (["5"], [False], 0.0),
]


@pytest.mark.parametrize(("answers", "correct", "expected"), VOTES)
def test_cons_at_k_asks_whether_the_commonest_answer_is_right(answers, correct, expected):
    assert cons_at_k([answers], [correct]) == pytest.approx(expected)


def test_cons_at_k_is_the_mean_over_problems():
    answers, correct, shares = zip(*VOTES, strict=True)
    assert cons_at_k(answers, correct) == pytest.approx(fmean(shares))


@few
@given(votes=st.lists(st.sampled_from(["4", "5", "6", None]), min_size=1, max_size=6))
def test_cons_at_k_is_a_count_in_which_the_first_of_equals_wins_over_all_orders_of_the_samples(votes):
    def first_wins(order):
        counted = Counter(answer for answer in order if answer is not None).most_common(1)
        return bool(counted) and counted[0][0] == "4"

    brute_force = fmean(first_wins(order) for order in permutations(votes))
    assert cons_at_k([votes], [[answer == "4" for answer in votes]]) == pytest.approx(brute_force)


@few
@given(votes=st.lists(st.sampled_from(["4", "5", "6", None]), min_size=1, max_size=9), seed=st.integers(0, 99))
def test_cons_at_k_does_not_depend_on_the_order_of_the_samples(votes, seed):
    shuffled = random.Random(seed).sample(votes, len(votes))
    first, second = (cons_at_k([row], [[answer == "4" for answer in row]]) for row in (votes, shuffled))
    assert first == second


@pytest.mark.parametrize("estimate", [avg_at_k, lambda c: pass_at_k(c, 1), lambda c: cons_at_k(c, c)])
def test_an_estimate_needs_a_problem_and_every_problem_a_sample(estimate):
    with pytest.raises(ValueError, match="an estimate needs at least one problem, got none"):
        estimate([])
    with pytest.raises(ValueError, match="every problem needs at least one sample, got one with none"):
        estimate([[True], []])


@pytest.mark.parametrize("k", [0, -1, 4])
def test_pass_at_k_needs_k_of_the_samples(k):
    with pytest.raises(ValueError, match=f"k must be between 1 and the 3 samples of a problem, got {k}"):
        pass_at_k([[True, False, True]], k)


@pytest.mark.parametrize(
    ("answers", "correct"), [([["4"]], [[True], [True]]), ([["4", "5"]], [[True]]), ([["4"]], [[True, False]])]
)
def test_cons_at_k_needs_answers_and_grades_of_one_shape(answers, correct):
    with pytest.raises(ValueError, match=r"shorter|longer"):
        cons_at_k(answers, correct)


def wilson(share, trials):
    """Both ends of what the score test does not reject, |share - p| <= z sqrt(p(1 - p) / trials), by bisection."""
    z = NormalDist().inv_cdf(0.975)

    def edge(inside, outside):
        for _ in range(100):
            p = (inside + outside) / 2
            inside, outside = (p, outside) if abs(share - p) <= z * sqrt(p * (1 - p) / trials) else (inside, p)
        return inside

    return edge(share, 0.0), edge(share, 1.0)


@pytest.mark.parametrize(("ones", "count"), [(1, 3), (5, 10), (9, 10), (37, 256), (255, 256)])
def test_the_interval_of_zeros_and_ones_is_wilsons(ones, count):
    assert interval([1.0] * ones + [0.0] * (count - ones)) == pytest.approx(wilson(ones / count, count))


def test_wilsons_interval_has_a_known_value():
    assert interval([1.0] * 8 + [0.0] * 2) == pytest.approx((0.490162, 0.943318), abs=1e-6)


@pytest.mark.parametrize("count", [1, 10, 256])
def test_all_wrong_and_all_right_still_have_a_width(count):
    z2 = Z95**2
    assert interval([0.0] * count) == pytest.approx((0, z2 / (count + z2)))
    assert interval([1.0] * count) == pytest.approx((count / (count + z2), 1))


def test_the_quantile_is_the_normal_one():
    assert pytest.approx(NormalDist().inv_cdf(0.975), abs=1e-15) == Z95


shares = st.lists(st.integers(0, 8).map(lambda c: c / 8), min_size=1, max_size=40)


@few
@given(values=shares)
def test_an_interval_contains_the_mean_and_stays_within_0_and_1(values):
    low, high = interval(values)
    assert 0 <= low <= fmean(values) + 1e-12
    assert fmean(values) - 1e-12 <= high <= 1
    assert high - low > 0


@few
@given(values=shares)
def test_the_interval_of_failures_mirrors_that_of_successes(values):
    low, high = interval(values)
    assert interval([1 - value for value in values]) == pytest.approx((1 - high, 1 - low))


@few
@given(values=shares)
def test_more_problems_of_the_same_kind_make_the_interval_narrower(values):
    low, high = interval(values)
    low_4, high_4 = interval(values * 4)
    assert high_4 - low_4 < high - low


@few
@given(values=shares)
def test_averages_over_samples_are_never_less_certain_than_single_samples(values):
    low, high = interval(values)
    low_1, high_1 = wilson(fmean(values), len(values))
    assert high - low <= high_1 - low_1 + 1e-9


@pytest.mark.parametrize("value", [1 / 3, 0.1, 0.7, 2 / 3])
@pytest.mark.parametrize("count", [3, 6, 10, 100])
def test_equal_values_get_the_width_of_single_samples_and_not_none(value, count):
    assert interval([value] * count) == pytest.approx(wilson(value, count))


def test_the_order_of_the_problems_does_not_matter():
    values = [i / 16 for i in range(17)] * 3
    assert interval(values) == pytest.approx(interval(values[::-1]), abs=1e-15)


def test_an_interval_needs_a_problem():
    with pytest.raises(ValueError, match="an interval needs at least one problem, got none"):
        interval([])


POPULATIONS = {
    "coins": lambda rng: 0.3,
    "rare": lambda rng: 0.05,
    "easy or hard": lambda rng: rng.betavariate(0.5, 0.5),
    "spread": lambda rng: rng.betavariate(2, 2),
    "mostly hard": lambda rng: rng.betavariate(0.2, 2),
}


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize(("problems", "samples"), [(16, 1), (32, 8), (64, 8)])
def test_nine_in_ten_intervals_or_more_cover_the_population(population, problems, samples):
    """Problems drawn from a population, `samples` answers each; 95% nominal, with room for small counts."""
    draw = POPULATIONS[population]
    rng = random.Random(0)
    truth = fmean(draw(rng) for _ in range(20_000))
    covered = 0
    for _ in range(400):
        chances = [draw(rng) for _ in range(problems)]
        low, high = interval([sum(rng.random() < p for _ in range(samples)) / samples for p in chances])
        covered += low <= truth <= high
    assert covered / 400 >= 0.90


@pytest.mark.parametrize("population", ["easy or hard", "spread"])
def test_more_samples_of_the_same_problems_narrow_the_interval(population):
    rng = random.Random(1)
    chances = [POPULATIONS[population](rng) for _ in range(64)]
    widths = []
    for samples in (1, 4, 16):
        low, high = interval([sum(rng.random() < p for _ in range(samples)) / samples for p in chances])
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)


AS = {
    "lists": lambda rows: rows,
    "array": np.array,
    "tensor": torch.tensor,
    "rows of arrays": lambda rows: [np.array(row) for row in rows],
    "rows of tensors": lambda rows: tuple(torch.tensor(row) for row in rows),
}
MARKS = {"bool": bool, "int": int, "float": float}


@pytest.mark.parametrize("form", AS)
@pytest.mark.parametrize("kind", MARKS)
def test_whatever_has_rows_of_true_and_false_or_1_and_0_is_taken(form, kind):
    correct = [[1, 0, 0, 0], [1, 1, 1, 0]]
    given = AS[form]([[MARKS[kind](value) for value in row] for row in correct])
    assert avg_at_k(given) == 0.5
    assert pass_at_k(given, 4) == 1.0
    assert cons_at_k(AS[form]([[7, 7, 8, 9], [5, 5, 5, 6]]), given) == 1.0
    assert interval(AS[form]([[0.0, 1.0]])[0]) == interval([0.0, 1.0])


@pytest.mark.parametrize("bad", [[[0.5, 1.0]], [[2, 0]], [["yes", "no"]]])
def test_what_is_neither_right_nor_wrong_is_named(bad):
    with pytest.raises(ValueError, match="correct must be True and False, or 1 and 0, got "):
        avg_at_k(bad)


def test_samples_without_rows_are_named():
    with pytest.raises(ValueError, match=r"samples must be \[P, n\], one row for each problem, got 1 for a row"):
        pass_at_k(np.array([1, 0]), 1)
