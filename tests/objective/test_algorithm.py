import dataclasses
import math
from dataclasses import replace

import pytest

from fipo.objective import AGGREGATIONS, ALGORITHMS, KNOBS, SURROGATES, Algorithm, FIPOConfig, algorithm
from fipo.objective.algorithm import OFF
from fipo.objective.surrogates.custom import Custom
from fipo.objective.surrogates.gspo import GSPO

CONFIGS = ("release_32b", "release_7b", "paper_32b", "paper_7b", "dapo", "grpo")


def test_every_preset_is_an_algorithm_of_the_same_name():
    for name in CONFIGS:
        assert ALGORITHMS[name].config == getattr(FIPOConfig, name)()
    surrogates = {prefix + one.name for one in SURROGATES for prefix in ("", "fipo_")}
    assert set(ALGORITHMS) == {*CONFIGS, "dr_grpo", *surrogates}
    assert {"gspo", "sapo", "cispo", "dppo_tv", "dppo_kl", "fipo_gspo", "fipo_cispo"} <= surrogates


@pytest.mark.parametrize(
    ("name", "aggregation", "scale_by_std"),
    [
        *((name, "token-mean", True) for name in ("release_32b", "release_7b", "paper_32b", "paper_7b")),
        ("dapo", "token-mean", True),
        ("grpo", "seq-mean-token-mean", True),
        ("dr_grpo", "seq-mean-token-sum-norm", False),
        *((name, "seq-mean-token-mean", True) for name in ("gspo", "fipo_gspo", "sapo", "fipo_sapo")),
        *((name, "token-mean", True) for name in ("cispo", "fipo_cispo", "dppo_tv", "dppo_kl")),
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


def test_the_surrogates_have_their_published_values():
    knobs = {
        "gspo": {"clip_low": 3e-4, "clip_high": 4e-4},
        "sapo": {"tau_pos": 1.0, "tau_neg": 1.05},
        "cispo": {"clip_low": 1.0, "clip_high": 0.28},
        "dppo_tv": {"clip_low": 0.15, "clip_high": 0.15, "ratio_cap": 20.0},
        "dppo_kl": {"clip_low": 0.05, "clip_high": 0.05, "ratio_cap": 20.0},
    }
    for name, expected in knobs.items():
        for preset in (name, f"fipo_{name}"):
            assert dataclasses.asdict(ALGORITHMS[preset].surrogate) == expected


def test_a_preset_of_another_surrogate_weighs_as_dapo_does_or_as_fipo_does():
    for one in SURROGATES:
        assert ALGORITHMS[one.name].config == FIPOConfig.dapo()
        assert ALGORITHMS[f"fipo_{one.name}"].config == replace(FIPOConfig.release_32b(), max_dual_clipped_tokens=None)


def test_a_surrogates_knobs_are_changed_by_their_names():
    changed = algorithm("fipo_gspo", clip_low=0.1, half_life=8)
    assert (changed.surrogate.clip_low, changed.surrogate.clip_high) == (0.1, 4e-4)
    assert changed.config == replace(ALGORITHMS["fipo_gspo"].config, half_life=8)
    assert algorithm("cispo", clip_low=10.0).surrogate.clip_low == 10.0


def test_settings_are_the_knobs_that_the_loss_reads():
    fipo = ("half_life", "influence_clip", "safety_threshold", "safety_floor", "dual_clip")
    assert set(ALGORITHMS["dapo"].settings()) == {*fipo, "clip_low", "clip_high", "max_dual_clipped_tokens"}
    assert set(ALGORITHMS["sapo"].settings()) == {*fipo, "tau_pos", "tau_neg"}
    assert ALGORITHMS["dppo_tv"].settings()["clip_high"] == 0.15
    assert {name for one in ALGORITHMS.values() for name in one.settings()} == set(KNOBS)


def test_a_function_takes_the_place_of_the_surrogate_and_leaves_the_rest():
    def mine(tokens, cfg):
        return -tokens.advantages * tokens.ratio

    changed = algorithm("paper_7b", surrogate=mine, clip_high=0.5)
    assert changed.surrogate == Custom(function=mine)
    assert changed.config == replace(FIPOConfig.paper_7b(), clip_high=0.5)
    assert algorithm("dapo", surrogate=GSPO(clip_low=0.1)).surrogate == GSPO(clip_low=0.1)
    assert algorithm("release_32b", surrogate=mine, max_dual_clipped_tokens="off").surrogate == Custom(function=mine)


def test_the_note_on_the_safety_rule_is_of_the_dual_clip():
    assert len(ALGORITHMS["release_32b"].notes()) == 2
    [one_sided] = ALGORITHMS["fipo_gspo"].notes()
    assert "one-sided" in one_sided
    assert ALGORITHMS["gspo"].notes() == []


def test_changes_go_where_their_names_belong():
    changed = algorithm("dapo", clip_low=0.1, half_life=8, kl_coef=0.5, aggregation="seq-mean-token-sum")
    assert changed.config == replace(FIPOConfig.dapo(), clip_low=0.1, half_life=8)
    assert (changed.kl_coef, changed.aggregation, changed.scale_by_std) == (0.5, "seq-mean-token-sum", True)
    assert ALGORITHMS["dapo"].config.clip_low == 0.2


@pytest.mark.parametrize("name", OFF)
def test_off_switches_off_what_can_be(name):
    own = {"kl_coef": 0.1, "entropy_coef": 0.1, "importance_weight_cap": 2.0, "importance_mask": (0.5, 2.0)}
    on = own if name in own else {}
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
        ("dapo", {"clip": 0.2}, "clip is no value of preset dapo, which has "),
        ("dapo", {"config": FIPOConfig()}, "config is no value of preset dapo, which has "),
        ("dapo", {"dual_clip": 0.5}, "dual_clip must be > 1, got 0.5"),
        ("dapo", {"kl_coef": math.inf}, "kl_coef must be >= 0 and finite, got inf"),
        ("dapo", {"importance_weight_cap": 0}, "importance_weight_cap must be > 0, got 0"),
        ("dapo", {"entropy_coef": -1}, "entropy_coef must be >= 0 and finite, got -1"),
        ("dapo", {"importance_mask": (2.0, 1.0)}, "importance_mask must be None or (low, high)"),
        ("dapo", {"importance_mask_level": "word"}, "importance_mask_level must be one of token, sequence, got 'word'"),
        ("dapo", {"tau_pos": 1.0}, "tau_pos is no value of preset dapo, which has "),
        ("sapo", {"clip_low": 0.2}, "clip_low is no value of preset sapo, which has "),
        ("sapo", {"tau_neg": 0}, "tau_neg must be > 0 and finite, got 0"),
        ("gspo", {"clip_low": -1}, "clip_low must be >= 0, got -1"),
        ("gspo", {"ratio_cap": 3}, "ratio_cap is no value of preset gspo, which has "),
        ("dppo_kl", {"ratio_cap": 0}, "ratio_cap must be > 0 and finite, got 0"),
        (
            "fipo_gspo",
            {"max_dual_clipped_tokens": 1},
            'max_dual_clipped_tokens must be "off" under the surrogate gspo, which has no dual clip, got 1',
        ),
        ("release_32b", {"surrogate": lambda tokens, cfg: 0}, "under the surrogate custom, which has no dual clip"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(preset, changes, message):
    with pytest.raises(ValueError) as error:
        algorithm(preset, **changes)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
