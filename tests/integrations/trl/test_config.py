"""FIPOTrainingConfig takes the objective's knobs and refuses what contradicts them, in one line."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="TRL is not installed here; make test-trl has an environment with it")

from transformers import HfArgumentParser

from fipo.integrations.trl import FIPOTrainingConfig
from fipo.integrations.trl.config import REPLACED
from fipo.objective import ALGORITHMS, KNOBS, FIPOConfig, algorithm


def config(tmp_path: Path, **options: Any) -> FIPOTrainingConfig:
    return FIPOTrainingConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **options)


def test_the_defaults_are_the_released_recipe_with_eight_mini_batches(tmp_path: Path) -> None:
    args = config(tmp_path, gradient_accumulation_steps=3)
    assert args.algorithm() == ALGORITHMS["release_32b"]
    assert (args.mini_batches, args.steps_per_generation) == (8, 24)


def test_every_knob_of_the_objective_can_be_set(tmp_path: Path) -> None:
    assert {*KNOBS, "surrogate"} <= {each.name for each in dataclasses.fields(FIPOTrainingConfig)}
    values = FIPOConfig(
        half_life=8.0,
        influence_clip=(0.7, 1.3),
        safety_threshold=2.0,
        safety_floor=0.9,
        clip_low=0.1,
        clip_high=0.3,
        dual_clip=math.inf,
        max_dual_clipped_tokens=3,
    )
    assert config(tmp_path, preset="paper_7b", **dataclasses.asdict(values)).algorithm().config == values


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_is_one_word(tmp_path: Path, name: str) -> None:
    assert config(tmp_path, preset=name).algorithm() == ALGORITHMS[name]


def test_the_knobs_of_another_surrogate_can_be_set(tmp_path: Path) -> None:
    assert config(tmp_path, preset="sapo", tau_neg=2.0).algorithm() == algorithm("sapo", tau_neg=2.0)
    assert config(tmp_path, preset="gspo", clip_low=0.1).algorithm() == algorithm("gspo", clip_low=0.1)
    with pytest.raises(ValueError, match="clip_low is no value of preset sapo"):
        config(tmp_path, preset="sapo", clip_low=0.1)


@pytest.mark.parametrize(("written", "meant"), [("off", None), ("3", 3), (3, 3), (None, 1)])
def test_the_sequence_filter_can_be_switched_off(tmp_path: Path, written: Any, meant: Any) -> None:
    args = config(tmp_path, max_dual_clipped_tokens=written)
    assert args.algorithm().config.max_dual_clipped_tokens == meant


def test_steps_per_generation_gives_the_mini_batches_too(tmp_path: Path) -> None:
    args = config(tmp_path, steps_per_generation=8, gradient_accumulation_steps=2)
    assert args.mini_batches == 4


def test_a_command_line_can_set_it() -> None:
    line = ["--output_dir", "out", "--influence_clip", "0.8", "1.2", "--max_dual_clipped_tokens", "off"]
    (args,) = HfArgumentParser(FIPOTrainingConfig).parse_args_into_dataclasses([*line, "--use_cpu", "--bf16", "False"])
    assert args.algorithm().config == dataclasses.replace(
        FIPOConfig(), influence_clip=(0.8, 1.2), max_dual_clipped_tokens=None
    )


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"preset": "fipo"}, "preset must be one of release_32b, .*, got 'fipo'"),
        ({"half_life": -3}, "half_life must be > 0 tokens, got -3"),
        ({"max_dual_clipped_tokens": "none"}, "max_dual_clipped_tokens must be None or an integer >= 0, got 'none'"),
        ({"mini_batches": 0}, "mini_batches must be an integer >= 1, got 0"),
        ({"max_generation_batches": True}, "max_generation_batches must be an integer >= 1, got True"),
        ({"on_short_batch": "wait"}, 'on_short_batch must be "train" or "stop", got \'wait\''),
        ({"mini_batches": 2, "steps_per_generation": 2}, "mini_batches must be left out when steps_per_generation"),
        (
            {"steps_per_generation": 3, "gradient_accumulation_steps": 2},
            "steps_per_generation must be a multiple of gradient_accumulation_steps 2, got 3",
        ),
        ({"mini_batches": 1}, "mini_batches x num_iterations must be > 1 with preset 'release_32b', got 1 x 1"),
        ({"epsilon_high": 0.28}, "epsilon_high must be left at None, got 0.28: use clip_high"),
        ({"delta": 10.0}, "delta must be left at None, got 10.0: use dual_clip"),
        ({"beta": -0.04}, "beta must be >= 0, got -0.04"),
        (
            {"vllm_importance_sampling_correction": True, "vllm_importance_sampling_clip_max": None},
            "vllm_importance_sampling_clip_max must be > 0, got None",
        ),
        ({"use_bias_correction_kl": True}, "use_bias_correction_kl must be left at False, got True"),
        (
            {"vllm_importance_sampling_mode": "sequence_mask"},
            "vllm_importance_sampling_mode must be left at 'token_truncate', got 'sequence_mask'",
        ),
        ({"loss_type": "grpo"}, "loss_type must be left at 'dapo', got 'grpo': use preset"),
        ({"disable_dropout": False}, "disable_dropout must be left at True, got False"),
    ],
)
def test_a_contradiction_is_refused_in_one_line(tmp_path: Path, options: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line) as refused:
        config(tmp_path, **options)
    assert "\n" not in str(refused.value)


def test_an_unknown_option_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="clip_ratio_high"):
        config(tmp_path, clip_ratio_high=0.28)


@pytest.mark.parametrize("options", [{"preset": "dapo"}, {"influence_clip": [1.0, 1.0]}, {"num_iterations": 2}])
def test_one_mini_batch_is_enough_where_weights_are_1_anyway_or_data_is_seen_twice(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    assert config(tmp_path, mini_batches=1, **options).mini_batches == 1


def test_every_option_that_the_objective_replaces_exists_in_trl(tmp_path: Path) -> None:
    assert set(REPLACED) <= {each.name for each in dataclasses.fields(FIPOTrainingConfig)}
