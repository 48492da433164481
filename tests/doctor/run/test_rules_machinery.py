import pytest

from fipo.doctor.run.rules_machinery import sampler_gap, skipped_updates, throughput_drop

GAP = "rollout/logprob_gap/mean"
RATE = "time/tokens_per_second"


@pytest.mark.parametrize("rule", [sampler_gap, skipped_updates, throughput_drop])
def test_the_quickstart_is_healthy(rule, history):
    assert rule(history()) is None


@pytest.mark.parametrize(("gap", "level"), [(0.05, "warning"), (0.8, "problem")])
def test_a_gap_between_sampler_and_trainer_is_named(gap, level, history):
    finding = sampler_gap(history(lambda *_: {GAP: gap}))
    assert finding.level == level
    assert f"differ by {gap} nats per token" in finding.text


def test_a_gap_that_importance_weights_correct_is_a_note(history):
    finding = sampler_gap(history(lambda *_: {GAP: 0.05}, objective={"importance_weight_cap": 2.0}))
    assert finding.level == "note"


def test_the_rounding_of_bfloat16_is_no_gap(history):
    assert sampler_gap(history(lambda *_: {GAP: 0.01})) is None


def test_a_skipped_update_is_named_with_its_step(history):
    finding = skipped_updates(history(lambda step, _: {"update/skipped": int(step == 17)}))
    assert finding.level == "warning"
    assert finding.steps == (17, 17)
    assert "was not finite: 1 (update.max_skipped is 3)" in finding.text


def test_more_than_the_budget_is_a_problem(history):
    assert skipped_updates(history(lambda step, _: {"update/skipped": int(step > 46)})).level == "problem"


def test_a_step_without_an_update_is_named(history):
    finding = skipped_updates(history(lambda step, _: {"policy/loss": None} if step == 9 else {}))
    assert finding.steps == (9, 9)
    assert finding.text.endswith("steps without any update: 1")


def test_half_the_speed_is_named_with_the_phase_that_grew(history):
    finding = throughput_drop(
        history(lambda step, _: {RATE: 400 if step > 30 else 1000, "time/generate": 9.0 if step > 30 else 2.0})
    )
    assert finding.level == "warning"
    assert "400 tokens per second, 1,000 at step" in finding.text
    assert "time/generate went from 2.0 to 9.0 s" in finding.text


def test_a_short_pause_is_no_drop(history):
    assert throughput_drop(history(lambda step, _: {RATE: 100 if step in (30, 31) else 1000})) is None
