import pytest

from fipo.doctor.findings import CannotTell
from fipo.doctor.run.rules_policy import (
    dual_clip_spike,
    entropy_collapse,
    entropy_explosion,
    length_collapse,
    length_stall,
)

DUAL = "policy/dual_clip_fraction"
LENGTH = "response_length/mean"


@pytest.mark.parametrize("rule", [dual_clip_spike, length_collapse, entropy_collapse, entropy_explosion])
def test_the_quickstart_is_healthy(rule, history):
    assert rule(history()) is None


def test_a_spike_of_dual_clipped_tokens_is_named_with_its_step(history):
    finding = dual_clip_spike(history(lambda step, _: {DUAL: 0.02 if step == 33 else 1e-4}))
    assert finding.level == "warning"
    assert finding.steps == (33, 33)
    assert "to 2.00% at step 33" in finding.text


def test_a_spike_before_the_length_collapses_is_a_problem(history):
    def collapsing(step, _):
        broken = step > 34
        return {DUAL: 0.02 * (step == 33), LENGTH: 10 if broken else 40, "accuracy/mean": 0.05 if broken else 0.4}

    finding = dual_clip_spike(history(collapsing))
    assert finding.level == "problem"
    assert finding.text.endswith("the response length collapsed afterwards")


def test_a_share_that_was_always_there_is_no_spike(history):
    assert dual_clip_spike(history(lambda *_: {DUAL: 0.02})) is None


def test_a_few_tokens_are_no_spike(history):
    assert dual_clip_spike(history(lambda step, _: {DUAL: 9e-4 if step == 33 else 0.0})) is None


def test_short_and_worse_responses_are_a_collapse(history):
    finding = length_collapse(
        history(lambda step, _: {LENGTH: 40 if step <= 30 else 10, "accuracy/mean": 0.4 if step <= 30 else 0.1})
    )
    assert finding.level == "problem"
    assert 30 < finding.steps[0] < 40 and finding.steps[1] == 50
    assert "fell from 40 tokens at step 34 to 10, and accuracy/mean is 0.10" in finding.text


def test_short_responses_that_are_as_good_are_no_collapse(history):
    assert length_collapse(history(lambda step, _: {LENGTH: 40 if step <= 30 else 10, "accuracy/mean": 0.4})) is None


def test_a_run_that_records_no_accuracy_is_judged_by_its_reward(history):
    finding = length_collapse(
        history(
            lambda step, _: {
                LENGTH: 40 if step <= 30 else 10,
                "accuracy/mean": None,
                "reward/mean": 0.0 if step <= 30 else -1.0,
            }
        )
    )
    assert "(reward/mean + 1) / 2 is 0.00" in finding.text


def test_entropy_at_a_tenth_of_its_start_is_a_collapse(history):
    finding = entropy_collapse(history(lambda step, _: {"policy/entropy": 0.5 if step <= 20 else 0.04}))
    assert finding.level == "warning"
    assert "0.04 nats, 8% of the 0.5 of the first steps" in finding.text


def test_entropy_at_a_third_of_its_start_is_none(history):
    assert entropy_collapse(history(lambda step, _: {"policy/entropy": 0.5 if step <= 20 else 0.17})) is None


def test_entropy_that_trebles_is_an_explosion(history):
    finding = entropy_explosion(history(lambda step, _: {"policy/entropy": 0.3 if step <= 20 else 1.5}))
    assert finding.level == "problem"
    assert "1.5 nats, up from 0.3 in the first steps" in finding.text


def test_three_times_nearly_nothing_is_no_explosion(history):
    assert entropy_explosion(history(lambda step, _: {"policy/entropy": 0.0 if step <= 20 else 0.1})) is None


def test_a_hundred_steps_without_gain_are_a_stall(history):
    finding = length_stall(history(lambda *_: {LENGTH: 40.0, "accuracy/mean": 0.4}, steps=100))
    assert finding.level == "warning"
    assert finding.steps == (1, 100)
    assert "stays at 40 tokens (+0.0% in 50 steps) and accuracy/mean at 0.40 (+0.000)" in finding.text


@pytest.mark.parametrize("growing", [LENGTH, "accuracy/mean"])
def test_growth_of_either_is_no_stall(growing, history):
    steady = {LENGTH: 40.0, "accuracy/mean": 0.4}
    moving = history(lambda step, _: steady | {growing: steady[growing] * (1 + step / 500)}, steps=100)
    assert length_stall(moving) is None


def test_a_solved_task_may_stand_still(history):
    with pytest.raises(CannotTell, match="little is left to gain"):
        length_stall(history(lambda *_: {LENGTH: 40.0, "accuracy/mean": 0.97}, steps=100))


def test_fifty_steps_are_too_few_for_a_stall(history):
    with pytest.raises(CannotTell, match="50 of the 100 steps"):
        length_stall(history())
