from dataclasses import replace
from pathlib import Path

import pytest
from tests.doctor.recipe.test_samples import figures

from fipo.doctor.recipe.timing import (
    DecodeSpeed,
    Speeds,
    duration,
    fit_decode,
    generation_batches,
    loss_findings,
    times,
    trained_tokens,
)
from fipo.training.recipe import load_recipe

SPEEDS = Speeds(
    decode=DecodeSpeed(fixed=0.01, per_row=0.001),
    slowdown=1.0,
    prefill_per_token=0.0,
    grade_per_answer=0.0,
    score_per_token=0.0,
    update_per_token=0.0,
    optimizer_step=0.0,
    packed=True,
)

SIZES = {"run.steps": "50", "update.mini_batches": "4", "eval.every": "25", "checkpoint.every": "25"}


@pytest.fixture
def recipe(repository: Path):
    def load(**overrides: str):
        written = {key.replace("__", "."): value for key, value in overrides.items()}
        return load_recipe(repository / "recipe" / "quickstart.toml", SIZES | written)

    return load


@pytest.mark.parametrize("truth", [(0.01, 0.001), (0.02, 0.0), (0.0, 0.003)])
def test_decode_speed_is_the_line_through_two_sizes(truth):
    fixed, per_row = truth
    found = fit_decode((16, fixed + 16 * per_row), (192, fixed + 192 * per_row))
    assert (found.fixed, found.per_row) == pytest.approx(truth, abs=1e-12)


def test_no_part_of_a_decode_step_is_negative_whatever_the_noise():
    assert fit_decode((16, 0.2), (192, 0.1)) == DecodeSpeed(fixed=pytest.approx(0.1), per_row=0.0)
    assert fit_decode((16, 0.001), (192, 0.1)) == DecodeSpeed(fixed=0.0, per_row=pytest.approx(0.1 / 192))
    assert fit_decode((16, 0.1), (16, 0.2)) == DecodeSpeed(fixed=0.0, per_row=pytest.approx(0.2 / 16))


def test_a_step_by_hand(recipe):
    # 24 problems x 8 responses of 20 tokens in 192 slots: as many steps as the longest has tokens, 50
    speeds = replace(SPEEDS, grade_per_answer=0.1, score_per_token=0.01, update_per_token=0.02, optimizer_step=3.0)
    low = times(recipe(), speeds, figures(length_error=0.0), eval_problems=1, pessimistic=False)
    trained = 16 * 8 * (10 + 20)
    assert low.step == pytest.approx(
        {
            "generate": 50 * 0.01 + 24 * 8 * 20 * 0.001,
            "grade": 24 * 8 * 0.1,
            "log-probs": trained * 0.75 * 0.01,
            "update": trained * 0.02 + 4 * 3.0,
        }
    )


def test_the_upper_end_is_above_the_lower_end_in_every_part(recipe):
    speeds = replace(SPEEDS, slowdown=1.5, update_per_token=0.01, score_per_token=0.01, grade_per_answer=0.01)
    low, high = (times(recipe(), speeds, figures(), 64, pessimistic=end) for end in (False, True))
    assert all(low.step[part] < high.step[part] for part in low.step if part != "grade")
    assert low.evaluation < high.evaluation
    assert low.run_seconds(recipe()) < high.run_seconds(recipe())


def test_few_slots_take_more_steps(recipe):
    many, few = (
        times(recipe(rollout__decode_batch=slots), SPEEDS, figures(), 64, pessimistic=False) for slots in ("256", "16")
    )
    assert few.step["generate"] > many.step["generate"]
    assert few.evaluation > many.evaluation


def test_a_reference_model_is_scored_too(recipe):
    speeds = replace(SPEEDS, score_per_token=0.01)
    without, with_it = (
        times(recipe(objective__kl_coef=kl), speeds, figures(), 8, pessimistic=False) for kl in ("0", "0.1")
    )
    assert with_it.step["log-probs"] == pytest.approx(without.step["log-probs"] * 1.75 / 0.75)


def test_a_run_is_its_steps_and_its_evaluations(recipe):
    found = times(recipe(), SPEEDS, figures(), 64, pessimistic=False)
    assert found.run_seconds(recipe()) == pytest.approx(50 * found.step_seconds + 3 * found.evaluation)
    assert found.run_seconds(recipe(run__steps="26")) == pytest.approx(26 * found.step_seconds + 3 * found.evaluation)


def test_generation_batches_fill_the_groups_within_their_cap(recipe):
    assert generation_batches(recipe(), 1.0) == 1
    assert generation_batches(recipe(), 16 / 24) == 1
    assert generation_batches(recipe(), 0.5) == 2
    assert generation_batches(recipe(), 0.0) == generation_batches(recipe(), 1e-9) == 10


def test_a_long_prompt_is_trained_on_once_a_group():
    assert trained_tokens(100, 80, 8, packed=True) == 180
    assert trained_tokens(100, 80, 8, packed=False) == 880
    assert trained_tokens(5, 80, 8, packed=True) == 120


def test_hours_between_checkpoints_are_a_warning(recipe):
    slow = times(recipe(), replace(SPEEDS, grade_per_answer=2.0), figures(), 1, pessimistic=False)
    (finding,) = loss_findings(recipe(), slow)
    assert finding.keys == ("checkpoint.every",)
    assert "between two checkpoints lie 25 steps" in finding.text
    assert loss_findings(recipe(checkpoint__every="1"), slow) == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.321, "0.32 s"), (4.04, "4.0 s"), (119.6, "120 s"), (150, "2.5 min"), (7200, "2.0 h"), (86400 * 3, "3.0 days")],
)
def test_a_duration_has_two_digits_and_a_unit(seconds, text):
    assert duration(seconds) == text
