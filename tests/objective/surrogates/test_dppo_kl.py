import math

import pytest
from tests.objective.surrogates.test_dppo_tv import gradient_of


def divergence(p, p_old):
    return p_old * math.log(p_old / p) + (1 - p_old) * math.log((1 - p_old) / (1 - p))


@pytest.mark.parametrize(
    ("p", "p_old", "advantage"),
    [(p, p_old, a) for p in (0.05, 0.45, 0.5, 0.7, 0.99) for p_old in (0.1, 0.5, 0.9) for a in (1.0, -1.0)],
)
def test_a_token_is_trained_on_inside_the_trust_region_and_on_its_way_back(p, p_old, advantage, run):
    back = p <= p_old if advantage > 0 else p >= p_old
    valid = back or divergence(p, p_old) <= 0.05
    expected = -advantage * min(p / p_old, 20.0) if valid else 0.0
    assert gradient_of(p, p_old, advantage, run, "dppo_kl") == pytest.approx(expected, rel=1e-12)


def test_each_side_has_its_own_threshold(run):
    assert gradient_of(0.7, 0.5, 1.0, run, "dppo_kl", clip_high=0.01) == 0
    assert gradient_of(0.7, 0.5, 1.0, run, "dppo_kl", clip_low=0.01, clip_high=0.2) != 0
    assert gradient_of(0.3, 0.5, -1.0, run, "dppo_kl", clip_low=0.01) == 0
    assert gradient_of(0.3, 0.5, -1.0, run, "dppo_kl", clip_high=0.01, clip_low=0.2) != 0


def test_a_probability_of_one_is_finite(run):
    assert gradient_of(1.0, 0.5, -1.0, run, "dppo_kl") == pytest.approx(2.0)
    assert gradient_of(0.5, 1.0, 1.0, run, "dppo_kl") == pytest.approx(-0.5)
