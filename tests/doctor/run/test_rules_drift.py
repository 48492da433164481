import pytest
import torch
from tests.doctor.run.test_spread import drifting, independent, record

from fipo.doctor.findings import CannotTell
from fipo.doctor.run.rules_drift import no_response_signal, ratio_off, spread_off

MOVING = {"fipo/influence_weight/std": 0.05}


def ratio(mean, margin=0.002):
    return {"fipo/ratio_mean": mean, "fipo/ratio_mean/low": 1 - margin, "fipo/ratio_mean/high": 1 + margin}


def signal(value, margin=0.2):
    names = {"fipo/response_signal": value, "fipo/response_signal/low": -margin, "fipo/response_signal/high": margin}
    return MOVING | names


def test_a_mean_ratio_around_1_is_no_finding(history):
    assert ratio_off(history(lambda step, _: ratio(1.001 if step % 2 else 0.999))) is None


def test_a_mean_ratio_that_is_off_in_every_step_is_named_with_its_error(history):
    finding = ratio_off(history(lambda *_: ratio(1.01)))
    assert finding.level == "warning"
    assert finding.steps == (41, 50)
    assert "fipo/ratio_mean is 1.0100 +- 0.0006 over 10 steps and should be 1" in finding.text


def test_a_mean_ratio_that_is_off_by_less_than_its_error_or_by_next_to_nothing_is_none(history):
    assert ratio_off(history(lambda *_: ratio(1.01, margin=0.05))) is None
    assert ratio_off(history(lambda *_: ratio(1.001, margin=0.0001))) is None


def rounded(mean, gap, largest):
    return ratio(mean, margin=0.004) | {"rollout/logprob_gap/mean": gap, "rollout/logprob_gap/max": largest}


def test_what_rounding_adds_to_every_step_is_not_averaged_away(history):
    """A margin of .004 is +-.0013 over ten steps where it is chance, and .004 still where it is a bias."""
    assert ratio_off(history(lambda *_: rounded(1.003, gap=1e-6, largest=1e-5))).level == "warning"
    assert ratio_off(history(lambda *_: rounded(1.003, gap=0.02, largest=0.4))) is None
    assert "1.0060 +- 0.0040" in ratio_off(history(lambda *_: rounded(1.006, gap=0.02, largest=0.4))).text


def test_rounding_takes_no_more_of_the_margin_than_there_is(history):
    assert "1.0060 +- 0.0040" in ratio_off(history(lambda *_: rounded(1.006, gap=0.5, largest=5.0))).text


def test_part_of_a_margin_may_be_rounding_and_the_rest_is_chance(history):
    finding = ratio_off(history(lambda *_: rounded(1.006, gap=0.02, largest=0.2)))
    assert "1.0060 +- 0.0026" in finding.text  # .002 + (.004 - .002) / sqrt(10)


def test_a_signal_above_chance_is_no_finding(history):
    assert no_response_signal(history(lambda *_: signal(0.05))) is None


@pytest.mark.parametrize("value", [0.02, -0.3])
def test_a_signal_that_is_chance_or_against_the_reward_is_named_and_not_taken_for_noise(value, history):
    finding = no_response_signal(history(lambda *_: signal(value)))
    assert finding.level == "warning"
    assert finding.steps == (1, 50)
    assert f"fipo/response_signal is {value:+.3f} +- 0.029: within groups" in finding.text
    assert "in long responses they need not" in finding.text and "noise" not in finding.text


def test_a_signal_that_few_steps_or_responses_know_too_little_of_is_not_judged(history):
    with pytest.raises(CannotTell, match=r"known to \+- 0.13 so far"):
        no_response_signal(history(lambda *_: signal(0.05, margin=0.4), steps=10))


def test_without_a_signal_weights_that_hardly_differ_from_1_make_it_a_note(history):
    still = history(lambda *_: signal(0.0) | {"fipo/influence_weight/std": 0.004})
    assert no_response_signal(still).level == "note"


def test_runs_without_the_metrics_say_so(history):
    with pytest.raises(CannotTell, match="fipo/ratio_mean is not recorded"):
        ratio_off(history())
    with pytest.raises(CannotTell, match="fipo/response_signal is not recorded"):
        no_response_signal(history(lambda *_: MOVING))


@pytest.mark.parametrize("rule", [no_response_signal, spread_off])
def test_a_dapo_run_has_no_weights_to_judge(rule, history):
    with pytest.raises(CannotTell, match="every weight is 1"):
        rule(history(lambda *_: {"fipo/influence_weight/std": 0.0}))


def test_independent_log_ratios_are_spread_as_they_should_be(history):
    fresh = history(lambda *_: MOVING)
    record(fresh, independent())
    assert spread_off(fresh) is None


def test_perfect_credit_is_spread_as_it_should_be_too(history):
    """What the control cannot see: it says nothing of where the weights point."""
    fresh = history(lambda *_: MOVING)
    noise = torch.zeros(10, 4, 100)
    noise[:, :, ::25] = 0.1 * torch.randn(10, 4, 4, generator=torch.Generator().manual_seed(0)).sign()
    record(fresh, noise)
    assert spread_off(fresh) is None


def test_neighbours_that_move_together_are_named_with_their_numbers(history):
    moving = history(lambda *_: MOVING)
    record(moving, drifting())
    finding = spread_off(moving)
    assert finding.level == "warning"
    assert finding.steps == (41, 50)
    assert "39 draws; 40 responses, 4,000 tokens" in finding.text
    assert "rollout.top_p = 1" in finding.advice


def test_neighbours_that_move_against_each_other_are_named(history):
    moving = history(lambda *_: MOVING)
    noise = independent()
    record(moving, noise - noise.roll(1, dims=2))
    assert "spreads 0." in spread_off(moving).text
