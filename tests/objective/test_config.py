import dataclasses
import math

import pytest

from fipo.objective import FIPOConfig

# half_life, influence_clip, safety_threshold, safety_floor, clip_low, clip_high, dual_clip, filter
PRESETS = {
    "release_32b": (32, (1.0, 1.2), 10, 0.8, 0.2, 0.28, 10, 1),
    "release_7b": (32, (0.8, 1.2), 3, 0.8, 0.2, 0.28, 10, 1),
    "paper_32b": (32, (1.0, 1.2), 10, 1.0, 0.2, 0.28, 10, None),
    "paper_7b": (32, (0.8, 1.2), 3, 1.0, 0.2, 0.28, 10, None),
    "dapo": (32, (1.0, 1.0), 10, 0.8, 0.2, 0.28, 10, None),
    "grpo": (32, (1.0, 1.0), 10, 0.8, 0.2, 0.2, math.inf, None),
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_the_published_values(name):
    assert dataclasses.astuple(getattr(FIPOConfig, name)()) == PRESETS[name]


def test_the_defaults_are_the_released_32b_recipe():
    assert FIPOConfig() == FIPOConfig.release_32b()


BAD = [
    ({"half_life": -3}, "half_life must be > 0 tokens, got -3"),
    ({"half_life": 0}, "half_life must be > 0 tokens, got 0"),
    ({"half_life": math.nan}, "half_life must be a number, got nan"),
    ({"half_life": "32"}, "half_life must be a number, got '32'"),
    ({"half_life": None}, "half_life must be a number, got None"),
    ({"safety_threshold": 0.0}, "safety_threshold must be > 0, got 0.0"),
    ({"safety_floor": 1.5}, "safety_floor must be in [0, 1], got 1.5"),
    ({"safety_floor": -0.1}, "safety_floor must be in [0, 1], got -0.1"),
    ({"clip_low": 1.01}, "clip_low must be in [0, 1], got 1.01"),
    ({"clip_low": True}, "clip_low must be a number, got True"),
    ({"clip_high": -0.28}, "clip_high must be >= 0, got -0.28"),
    ({"clip_high": 1e300}, "clip_high must be a number that float32 can hold, got 1e+300"),
    ({"influence_clip": (1.0, 10**39)}, "influence_clip high must be a number that float32 can hold, got 1000"),
    ({"dual_clip": 1}, "dual_clip must be > 1, got 1"),
    ({"max_dual_clipped_tokens": -1}, "max_dual_clipped_tokens must be None or an integer >= 0, got -1"),
    ({"max_dual_clipped_tokens": 1.0}, "max_dual_clipped_tokens must be None or an integer >= 0, got 1.0"),
    ({"max_dual_clipped_tokens": True}, "max_dual_clipped_tokens must be None or an integer >= 0, got True"),
    ({"influence_clip": (1.2, 1.0)}, "got (1.2, 1.0)"),
    ({"influence_clip": (-0.1, 1.0)}, "influence_clip low must be >= 0, got -0.1"),
    ({"influence_clip": (0.0, 0.0)}, "influence_clip high must be > 0 and finite, got 0.0"),
    ({"influence_clip": (1.0, math.inf)}, "influence_clip high must be > 0 and finite, got inf"),
    ({"influence_clip": (1.0, "1.2")}, "influence_clip high must be a number, got '1.2'"),
    ({"influence_clip": (1.0, 1.1, 1.2)}, "got (1.0, 1.1, 1.2)"),
    ({"influence_clip": 0.2}, "influence_clip must be None or (low, high)"),
]


@pytest.mark.parametrize(("fields", "message"), BAD, ids=[message for _, message in BAD])
def test_a_wrong_value_is_refused_in_one_line_with_the_rule_and_the_value(fields, message):
    with pytest.raises(ValueError) as error:
        FIPOConfig(**fields)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_every_field_is_validated():
    assert {name for fields, _ in BAD for name in fields} == {field.name for field in dataclasses.fields(FIPOConfig)}


def test_replace_validates_again():
    with pytest.raises(ValueError, match="half_life must be > 0 tokens, got -1"):
        dataclasses.replace(FIPOConfig.dapo(), half_life=-1)


def test_a_config_is_frozen_and_keyword_only():
    with pytest.raises(dataclasses.FrozenInstanceError):
        FIPOConfig().half_life = 8
    with pytest.raises(TypeError):
        FIPOConfig(32.0)


def test_integers_are_accepted_where_numbers_are_meant():
    assert FIPOConfig(half_life=32, dual_clip=10, influence_clip=(1, 2)) == FIPOConfig(influence_clip=(1.0, 2.0))


def test_a_list_of_bounds_as_toml_has_it_becomes_a_tuple():
    assert FIPOConfig(influence_clip=[0.8, 1.2]).influence_clip == (0.8, 1.2)


def test_no_influence_clip_means_the_released_bounds():
    assert FIPOConfig(influence_clip=None).influence_bounds == (0.0, 10.0)
    assert FIPOConfig(influence_clip=(0.8, 1.2)).influence_bounds == (0.8, 1.2)


def test_the_32b_recipe_notes_its_idle_safety_rule_and_its_one_sided_weights():
    safety, one_sided = FIPOConfig.release_32b().notes()
    assert "safety_threshold 10 >= dual_clip 10" in safety
    assert "(1, 1.2) is one-sided" in one_sided


@pytest.mark.parametrize("name", ["release_7b", "paper_7b", "dapo", "grpo"])
def test_the_other_recipes_have_nothing_to_note(name):
    assert getattr(FIPOConfig, name)().notes() == []
