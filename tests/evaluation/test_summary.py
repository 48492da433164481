import random
from statistics import fmean, quantiles

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.evaluation.helpers import result

from fipo.evaluation import avg_at_k, cons_at_k, interval, pass_at_k
from fipo.evaluation.summary import estimates_of, figures_of, ks_up_to, quantile

few = settings(derandomize=True, deadline=None, max_examples=60)


@pytest.mark.parametrize(
    ("n", "ks"), [(1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (12, [1, 2, 4, 8, 12])]
)
def test_pass_at_k_is_given_for_the_powers_of_two_and_for_n(n, ks):
    assert ks_up_to(n) == ks


@few
@given(
    rows=st.lists(st.lists(st.sampled_from([0, 1, 2, None]), min_size=6, max_size=6), min_size=1, max_size=5),
)
def test_the_mean_over_problems_is_what_the_estimators_give(rows):
    correct = [[vote == 0 for vote in row] for row in rows]
    results = [result(str(i), right, votes=row) for i, (row, right) in enumerate(zip(rows, correct, strict=True))]
    means = {name: fmean(values) for name, values in estimates_of(results).items()}
    expected = {"avg@6": avg_at_k(correct), "cons@6": cons_at_k(rows, correct)}
    expected |= {f"pass@{k}": pass_at_k(correct, k) for k in (1, 2, 4, 6)}
    assert means == pytest.approx(expected)


def test_the_figures_are_those_of_a_hand_count():
    results = [result("a", [True, False]), result("b", [False, False])]
    cut = results[1]["samples"][1]
    cut |= {"tokens": 8, "truncated": True, "outcome": "no_answer", "vote": None}
    results[1]["samples"][0]["outcome"] = "timeout"
    figures = figures_of(results)
    assert (figures["problems"], figures["samples_per_problem"], figures["failed_grades"]) == (2, 2, 1)
    values = {name: figure["value"] for name, figure in figures["estimates"].items()}
    assert values == {"avg@2": 0.25, "cons@2": 0.25, "pass@1": 0.25, "pass@2": 0.5}
    assert {name: figure["value"] for name, figure in figures["rates"].items()} == {
        "truncated": 0.25,
        "no_answer": 0.25,
    }
    assert figures["estimates"]["avg@2"]["ci"] == list(interval([0.5, 0.0]))
    lengths = figures["response_tokens"]
    assert (lengths["mean"], lengths["p50"], lengths["max"], lengths["total"]) == (5.0, 4.0, 8, 20)


@few
@given(values=st.lists(st.integers(0, 100), min_size=2, max_size=30))
def test_a_quantile_is_the_standard_librarys(values):
    ordered = sorted(values)
    expected = quantiles(ordered, n=20, method="inclusive")
    assert [quantile(ordered, i / 20) for i in range(1, 20)] == pytest.approx(expected)
    assert (quantile(ordered, 0.0), quantile(ordered, 1.0)) == (ordered[0], ordered[-1])


POPULATIONS = {
    "easy or hard": lambda rng: rng.betavariate(0.5, 0.5),
    "spread": lambda rng: rng.betavariate(2, 2),
    "hard": lambda rng: rng.betavariate(0.3, 3),
}


def drawn(rng, chances, samples):
    """Each sample is right by the problem's chance, else one of two wrong answers, the first of them likelier."""
    rows = [[0 if rng.random() < p else rng.choice([1, 1, 2]) for _ in range(samples)] for p in chances]
    return [result(str(i), [vote == 0 for vote in row], votes=row) for i, row in enumerate(rows)]


@pytest.mark.slow
@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize(("problems", "samples"), [(30, 8), (100, 4)])
def test_the_intervals_cover_what_other_problems_and_other_samples_would_give(population, problems, samples):
    """Of every estimate, pass@k with k < n and cons@n as well: 95% nominal, less for few problems near 0 or 1."""
    draw, rng = POPULATIONS[population], random.Random(0)
    many = estimates_of(drawn(rng, [draw(rng) for _ in range(20_000)], samples))
    truth = {name: fmean(values) for name, values in many.items()}
    covered = dict.fromkeys(truth, 0)
    for _ in range(300):
        results = drawn(rng, [draw(rng) for _ in range(problems)], samples)
        for name, values in estimates_of(results).items():
            low, high = interval(values)
            covered[name] += low <= truth[name] <= high
    assert min(covered.values()) / 300 >= 0.89, covered
