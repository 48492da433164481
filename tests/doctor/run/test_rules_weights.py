import pytest

from fipo.doctor.findings import CannotTell
from fipo.doctor.run.rules_weights import (
    mean_weight_off,
    weights_are_rounding,
    weights_idle,
    weights_saturated,
)

WEIGHT = "fipo/influence_weight"


def test_the_quickstart_has_no_saturated_weights(history):
    assert weights_saturated(history()) is None


def test_a_fifth_of_the_weights_at_a_bound_is_saturation(history):
    finding = weights_saturated(history(lambda step, _: {f"{WEIGHT}/clipped_high": 0.0 if step <= 20 else 0.3}))
    assert finding.level == "warning"
    assert finding.steps[1] == 50 and 20 < finding.steps[0] <= 30
    assert "30% of the trained tokens" in finding.text


def test_half_of_the_tokens_below_a_lower_bound_of_1_are_no_saturation(history):
    assert weights_saturated(history(lambda *_: {f"{WEIGHT}/clipped_low": 0.5})) is None


def test_with_two_bounds_both_count(history):
    two_sided = {f"{WEIGHT}/min": 0.8, f"{WEIGHT}/max": 1.2, f"{WEIGHT}/clipped_low": 0.25}
    assert weights_saturated(history(lambda *_: two_sided | {f"{WEIGHT}/clipped_high": 0.1})) is None
    assert weights_saturated(history(lambda *_: two_sided | {f"{WEIGHT}/clipped_high": 0.2})) is not None


def test_saturation_that_is_over_is_not_reported(history):
    over = history(lambda step, _: {f"{WEIGHT}/clipped_high": 0.3 if step <= 20 else 0.0})
    assert weights_saturated(over) is None


def test_a_run_in_which_every_weight_is_1_has_none_to_saturate(history):
    dapo = {f"{WEIGHT}/min": 1.0, f"{WEIGHT}/max": 1.0, f"{WEIGHT}/std": 0.0, f"{WEIGHT}/clipped_high": 0.5}
    with pytest.raises(CannotTell, match="every weight is 1"):
        weights_saturated(history(lambda *_: dapo))


def test_the_quickstarts_weights_hardly_differ_from_1(history):
    finding = weights_idle(history())
    assert finding.level == "note"
    assert "the weights hardly differ from 1: fipo/influence_weight/std is 0.0042" in finding.text


def test_weights_that_move_are_not_idle(history):
    assert weights_idle(history(lambda *_: {f"{WEIGHT}/std": 0.05})) is None


def test_one_mini_batch_is_named_as_the_reason(history):
    finding = weights_idle(history(lambda *_: {f"{WEIGHT}/std": 0.0}, update={"mini_batches": 1}))
    assert finding.text.startswith("with one mini-batch every weight is 1")


def test_a_dapo_recipe_is_not_told_that_it_is_dapo(history):
    with pytest.raises(CannotTell, match="every weight is 1 in this recipe"):
        weights_idle(history(resolved={"objective": {"influence_clip": [1.0, 1.0]}}))


def test_a_mean_weight_near_1_is_no_finding(history):
    assert mean_weight_off(history()) is None


@pytest.mark.parametrize("mean", [0.9, 1.1])
def test_a_mean_weight_away_from_1_is_a_hidden_step_size(mean, history):
    finding = mean_weight_off(history(lambda *_: {f"{WEIGHT}/mean": mean}))
    assert finding.level == "note"
    assert f"mean is {mean:.3f}" in finding.text
    assert finding.advice.startswith("a DAPO run to compare with")


def test_ten_steps_are_needed(history):
    with pytest.raises(CannotTell, match="9 of the 10 steps that it takes"):
        weights_idle(history(steps=9))


def rounded(noise, std=0.05):
    """Measured every ten steps and in the first."""

    def change(step, _):
        measured = {"fipo/future_kl_noise": noise(step), "fipo/rounding/influence_weight_share": 0.8}
        return {f"{WEIGHT}/std": std, **(measured if step == 1 or step % 10 == 0 else {})}

    return change


def test_more_rounding_than_half_of_the_signal_is_a_warning_with_what_is_finer(history):
    bfloat16 = {"versions": {"precision": "bfloat16 on cuda"}}
    finding = weights_are_rounding(history(rounded(lambda step: 0.1 if step < 20 else 3.0), **bfloat16))
    assert finding.level == "warning"
    assert finding.steps == (30, 50)
    assert "3 times as large as its signal" in finding.text
    assert "80% of the variance" in finding.text
    assert finding.advice.startswith('model.dtype = "float16"')


@pytest.mark.parametrize(
    ("tables", "advice"),
    [
        ({"versions": {"precision": "float16 on cuda"}}, 'model.dtype = "float32"'),
        ({"versions": {"precision": "float32 on cuda"}, "model": {"matmul": "tf32"}}, 'model.matmul = "float32"'),
    ],
)
def test_the_advice_is_the_next_better_arithmetic(history, tables, advice):
    assert weights_are_rounding(history(rounded(lambda _: 0.6), **tables)).advice.startswith(advice)


def test_rounding_of_weights_that_are_idle_is_a_note(history):
    assert weights_are_rounding(history(rounded(lambda _: 3.0, std=0.004))).level == "note"


def test_a_little_rounding_is_none_to_speak_of(history):
    assert weights_are_rounding(history(rounded(lambda _: 0.2))) is None


@pytest.mark.parametrize(
    ("change", "steps", "reason"),
    [
        (lambda *_: {}, 50, "fipo/future_kl_noise is not recorded"),
        (rounded(lambda _: 3.0), 15, "measured less than 3 times so far"),
        (rounded(lambda _: 3.0, std=0.0), 50, "every weight is 1"),
    ],
)
def test_rounding_that_was_not_measured_or_does_not_matter_is_not_judged(history, change, steps, reason):
    with pytest.raises(CannotTell, match=reason):
        weights_are_rounding(history(change, steps))
