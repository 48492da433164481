import itertools

import numpy as np
import pytest
from scipy import stats

from fipo.study.statistics import EXACT_UP_TO, POWER, detectable, estimate, holm, sign_flip_p

DIFFERENCES = [0.3, -0.1, 0.4, 0.2, 0.05, -0.2, 0.6]


def test_a_mean_has_students_interval_over_seeds():
    found = estimate(DIFFERENCES)
    low, high = stats.t.interval(0.95, 6, loc=np.mean(DIFFERENCES), scale=stats.sem(DIFFERENCES))
    assert (found.low, found.high) == pytest.approx((low, high))
    assert (found.seeds, found.mean) == (7, pytest.approx(np.mean(DIFFERENCES)))


def test_a_single_seed_has_a_mean_and_no_interval():
    found = estimate([0.5])
    assert (found.mean, found.low, found.high, found.deviation) == (0.5, None, None, None)


def test_the_p_value_counts_the_sign_patterns_with_a_sum_as_large():
    patterns = list(itertools.product((1, -1), repeat=len(DIFFERENCES)))
    large = [abs(np.dot(p, DIFFERENCES)) >= abs(sum(DIFFERENCES)) - 1e-12 for p in patterns]
    assert sign_flip_p(DIFFERENCES) == pytest.approx(np.mean(large))


def test_differences_of_zero_are_no_evidence():
    assert sign_flip_p([0.0] * 5) == 1 and sign_flip_p([0.0] * (EXACT_UP_TO + 5)) == 1


def test_many_seeds_are_drawn_from_and_agree_with_the_exact_count_and_the_t_test():
    values = np.random.default_rng(3).normal(0.2, 1.0, size=EXACT_UP_TO + 8)
    assert sign_flip_p(values) == sign_flip_p(values)
    assert sign_flip_p(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.02)
    assert sign_flip_p([1.0] * 40) > 0


def test_holms_correction_is_that_of_its_paper():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_detectable_difference_is_found_with_the_stated_power():
    effect = detectable(0.5, 12, alpha=0.05)
    draws = np.random.default_rng(0).normal(effect, 0.5, size=(20_000, 12))
    found = stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(POWER, abs=0.01)


def test_what_can_be_detected_shrinks_with_seeds_and_grows_with_the_number_of_comparisons():
    assert detectable(1.0, 30, alpha=0.05) < detectable(1.0, 10, alpha=0.05) < detectable(1.0, 10, alpha=0.01)
    assert detectable(0.0, 10, alpha=0.05) == 0


@pytest.mark.parametrize(("seeds", "alpha", "possible"), [(5, 0.05, False), (6, 0.05, True), (9, 0.05 / 13, False)])
def test_nothing_is_detectable_where_differences_of_one_sign_would_not_do(seeds, alpha, possible):
    assert (sign_flip_p([1.0] * seeds) <= alpha) == possible
    assert (detectable(1.0, seeds, alpha=alpha) is not None) == possible
