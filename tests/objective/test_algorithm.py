import math
from dataclasses import fields, replace

import pytest

from fipo.objective import AGGREGATIONS, ALGORITHMS, Algorithm, FIPOConfig, algorithm
from fipo.objective.algorithm import OFF

CONFIGS = ("release_32b", "release_7b", "paper_32b", "paper_7b", "dapo", "grpo")


def test_every_preset_is_an_algorithm_of_the_same_name():
    for name in CONFIGS:
        assert ALGORITHMS[name].config == getattr(FIPOConfig, name)()
    assert set(ALGORITHMS) == {*CONFIGS, "dr_grpo"}


@pytest.mark.parametrize(
    ("name", "aggregation", "scale_by_std"),
    [
        *((name, "token-mean", True) for name in ("release_32b", "release_7b", "paper_32b", "paper_7b")),
        ("dapo", "token-mean", True),
        ("grpo", "seq-mean-token-mean", True),
        ("dr_grpo", "seq-mean-token-sum-norm", False),
    ],
)
def test_an_algorithm_names_its_average_and_its_advantages(name, aggregation, scale_by_std):
    algorithm = ALGORITHMS[name]
    assert (algorithm.aggregation, algorithm.scale_by_std) == (aggregation, scale_by_std)


def test_dr_grpo_is_grpo_with_another_average():
    assert ALGORITHMS["dr_grpo"].config == ALGORITHMS["grpo"].config


def test_an_unknown_aggregation_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=f"{', '.join(AGGREGATIONS)}, got 'mean'"):
        Algorithm(config=FIPOConfig.dapo(), aggregation="mean")


def test_a_preset_without_changes_is_itself():
    for name, expected in ALGORITHMS.items():
        assert algorithm(name) == expected


def test_changes_go_where_their_names_belong():
    changed = algorithm("dapo", clip_low=0.1, half_life=8, kl_coef=0.5, aggregation="seq-mean-token-sum")
    assert changed.config == replace(FIPOConfig.dapo(), clip_low=0.1, half_life=8)
    assert (changed.kl_coef, changed.aggregation, changed.scale_by_std) == (0.5, "seq-mean-token-sum", True)
    assert ALGORITHMS["dapo"].config.clip_low == 0.2


@pytest.mark.parametrize("name", OFF)
def test_off_switches_off_what_can_be(name):
    on = {"kl_coef": 0.1, "importance_weight_cap": 2.0} if name in {f.name for f in fields(Algorithm)} else {}
    changed = algorithm("release_7b", **{**on, name: "off"})
    assert getattr(changed if on else changed.config, name) == OFF[name]


def test_what_cannot_be_off_says_what_it_must_be():
    with pytest.raises(ValueError, match="clip_low must be a number, got 'off'"):
        algorithm("dapo", clip_low="off")


def test_none_means_what_the_config_says_of_it():
    assert algorithm("release_32b", max_dual_clipped_tokens=None).config.max_dual_clipped_tokens is None
    with pytest.raises(ValueError, match="half_life must be a number, got None"):
        algorithm("release_32b", half_life=None)


@pytest.mark.parametrize(
    ("preset", "changes", "message"),
    [
        ("ppo", {}, f"preset must be one of {', '.join(ALGORITHMS)}, got 'ppo'"),
        ("dapo", {"clip": 0.2}, ", got 'clip'"),
        ("dapo", {"config": FIPOConfig()}, ", got 'config'"),
        ("dapo", {"dual_clip": 0.5}, "dual_clip must be > 1, got 0.5"),
        ("dapo", {"kl_coef": math.inf}, "kl_coef must be >= 0 and finite, got inf"),
        ("dapo", {"importance_weight_cap": 0}, "importance_weight_cap must be > 0, got 0"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(preset, changes, message):
    with pytest.raises(ValueError) as error:
        algorithm(preset, **changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
