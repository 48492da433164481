import numpy as np
import pytest

from fipo.study.credit.estimands import correlation, mean, of_sums, predicted, response_signal, share, within


def sums(u, v):
    return np.array([len(u), u.sum(), v.sum(), u @ u, v @ v, u @ v])


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_a_correlation_from_sums_is_that_of_the_values(rng):
    u = rng.normal(size=500) + 3
    v = 0.4 * u + rng.normal(size=500)
    assert correlation(sums(u, v)) == pytest.approx(np.corrcoef(u, v)[0, 1])
    assert within(np.array([u @ u, v @ v, u @ v])) == pytest.approx(u @ v / np.sqrt((u @ u) * (v @ v)))


def test_where_the_future_says_nothing_the_sum_is_correlated_as_predicted(rng):
    """F = x + independent terms: what x knows of A, over the spread of F."""
    a = rng.normal(size=200_000)
    x = 0.3 * a + rng.normal(size=len(a))
    f = x + 3 * rng.normal(size=len(a))
    assert predicted(sums(x, a), sums(f, a)) == pytest.approx(correlation(sums(f, a)), abs=0.01)


def record(gain, truth=0.5, responses=(1.0, 0.5, -1.0, -0.5)):
    cosines = {"dapo": [0.1, 1.0], "truth": [0.1 + truth, 0.5], "w": [0.2 + gain, 0.9]}
    cosines |= {"w/shuffled_0": [0.1, 0.9], "w/shuffled_1": [0.3, 0.9]}
    return {"cosines": cosines, "groups": [{"responses": list(responses), "x, A": [2, 0, 0, 1, 1, 1]}]}


def test_s_is_the_gain_over_the_mean_of_the_shuffles_as_a_share_of_what_the_truth_gains_over_dapo():
    records = [record(gain) for gain in (0.04, 0.05, 0.06, 0.05)]
    found = share(records, "w", "w/shuffled")
    assert found.share.value == pytest.approx(0.05 / 0.5)
    assert 0.08 < found.share.low < found.share.value < found.share.high < 0.12
    assert found.p == 2 / 2**4
    assert share(records, "w", "dapo").share.value == pytest.approx((0.1 + 0.05) / 0.5)


def test_too_few_checkpoints_have_no_interval():
    assert mean([1.0, 2.0, 3.0]).low is None
    assert mean([1.0, 2.0, 3.0, 4.0]).low is not None


def test_the_response_signal_is_within_groups():
    shifted = [record(0.0, responses=(1.0 + 5 * i, 0.5, -1.0 + 5 * i, -0.5)) for i in range(4)]
    assert response_signal(shifted).value == pytest.approx(1.0)


def test_pooled_sums_weigh_every_group_alike():
    assert of_sums([record(0.0)] * 4, "x, A", correlation).value == pytest.approx(1.0)
