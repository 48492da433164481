import pytest

from fipo.doctor.findings import CannotTell
from fipo.doctor.run.history import History
from fipo.doctor.run.rules_reward import (
    dead_groups,
    format_lost,
    grader_failures,
    reward_collapse,
    reward_hacked,
    truncation,
)


@pytest.mark.parametrize(
    "rule", [reward_collapse, reward_hacked, truncation, format_lost, dead_groups, grader_failures]
)
def test_the_quickstart_is_healthy(rule, history):
    assert rule(history()) is None


def test_accuracy_that_is_lost_again_is_a_problem(history):
    finding = reward_collapse(history(lambda step, line: {"accuracy/mean": 0.0} if step > 40 else {}))
    assert finding.level == "problem"
    assert finding.steps[1] == 50 and 40 < finding.steps[0] <= 46
    assert "to 0.00" in finding.text


def test_accuracy_that_wavers_is_not_lost(history):
    assert reward_collapse(history(lambda step, _: {"accuracy/mean": 0.4 + 0.1 * (step % 2)})) is None


def evaluated(accuracies, training):
    """Evaluations at these steps, with intervals of +-0.03, and the accuracy in training."""

    def change(step, _):
        now = accuracies.get(step)
        interval = {
            "eval/avg_at_k": now,
            "eval/ci/avg_at_k/low": now and now - 0.03,
            "eval/ci/avg_at_k/high": now and now + 0.03,
        }
        return interval | {"accuracy/mean": training(step)}

    return change


def test_a_reward_that_rises_while_held_out_accuracy_falls_is_hacked(history):
    finding = reward_hacked(history(evaluated({25: 0.5, 50: 0.4}, lambda step: 0.3 + step / 100)))
    assert finding.level == "problem"
    assert finding.steps == (25, 50)
    assert "eval/avg_at_k fell from 0.500 to 0.400 while accuracy/mean rose by 0.25" in finding.text


def test_a_fall_within_the_intervals_is_chance(history):
    assert reward_hacked(history(evaluated({25: 0.5, 50: 0.45}, lambda step: 0.3 + step / 100))) is None


def test_a_reward_that_falls_with_it_is_not_hacked(history):
    assert reward_hacked(history(evaluated({25: 0.5, 50: 0.4}, lambda step: 0.8 - step / 100))) is None


def test_without_intervals_a_fall_of_a_twentieth_counts(history):
    def change(step, line):
        changed = evaluated({25: 0.5, 50: 0.4}, lambda step: 0.3 + step / 100)(step, line)
        return changed | {"eval/ci/avg_at_k/low": None, "eval/ci/avg_at_k/high": None}

    assert reward_hacked(history(change)) is not None


def test_one_evaluation_is_not_enough(history):
    with pytest.raises(CannotTell, match="1 of the 2 evaluations"):
        reward_hacked(history(steps=30))


TRUNCATED = "response_length/truncated"


def test_responses_at_the_limit_from_the_start_are_a_warning(history):
    finding = truncation(history(lambda *_: {TRUNCATED: 0.3}))
    assert finding.level == "warning"
    assert finding.text == "30% of the responses are cut off at the limit; 30% in the first steps"


def test_responses_that_have_learned_to_reach_the_limit_are_a_problem(history):
    growing = history(lambda step, _: {TRUNCATED: step / 100}, reward={"mask_truncated": True})
    finding = truncation(growing)
    assert finding.level == "problem"
    assert "with reward.mask_truncated they cost nothing" in finding.text
    assert finding.text.endswith("so training teaches it")
    assert "reward.mask_truncated = false" in finding.advice


def test_answers_that_can_no_longer_be_read_are_a_problem(history):
    finding = format_lost(history(lambda step, _: {"grade/no_answer": step / 100}))
    assert finding.level == "problem"
    assert "of the responses hold no answer" in finding.text


def test_a_few_unreadable_answers_are_none(history):
    assert format_lost(history(lambda *_: {"grade/no_answer": 0.1})) is None


def test_a_step_that_is_not_filled_names_the_kind_of_dead_groups(history):
    dead = {"groups/generated": 240, "groups/kept": 6, "groups/all_wrong": 230, "groups/all_correct": 4}
    finding = dead_groups(history(lambda *_: dead | {"groups/generation_batches": 10}))
    assert finding.level == "warning"
    assert finding.text == (
        "of 240 groups in 10 generation batches 230 are all wrong and 4 all correct; 6 of 16 are trained on"
    )
    assert finding.advice.startswith("easier problems")


def test_solved_problems_ask_for_harder_ones(history):
    dead = {"groups/generated": 96, "groups/all_wrong": 0, "groups/all_correct": 80, "groups/generation_batches": 4}
    assert dead_groups(history(lambda *_: dead)).advice.startswith("harder problems")


def test_no_group_at_all_is_a_problem(history):
    finding = dead_groups(history(lambda step, _: {"groups/kept": 0, "groups/all_wrong": 24} if step > 40 else {}))
    assert finding.level == "problem"


def test_half_of_the_groups_dead_is_what_the_recipe_plans_for(history):
    assert dead_groups(history(lambda *_: {"groups/all_wrong": 12})) is None


def test_grader_timeouts_are_named_with_what_they_pay(history):
    finding = grader_failures(
        history(lambda step, _: {"grade/timeout": 0.25 * (step == 20), "grade/failed": int(step == 20)})
    )
    assert finding.level == "warning"
    assert finding.steps == (20, 20)
    assert "timeouts and crashes: 1, 2.5% of those in the worst 10 steps" in finding.text
    assert "a reward of 0, which pays better" in finding.text


def test_many_crashes_are_a_problem_and_dropped_groups_pay_nothing(history):
    finding = grader_failures(history(lambda *_: {"grade/crash": 0.1}, grading={"on_failure": "drop_group"}))
    assert finding.level == "problem"
    assert "pays" not in finding.text


def test_one_odd_answer_is_none(history):
    assert grader_failures(history(lambda step, _: {"grade/timeout": 0.005 * (step == 20)})) is None


def test_a_grader_that_fails_from_the_first_step_is_found_at_once(history):
    assert "in the worst 1 steps" in grader_failures(history(lambda *_: {"grade/timeout": 0.5}, steps=1)).text


def test_a_run_that_stopped_at_a_broken_grader_quotes_it_before_any_step(make_run):
    run = make_run([])
    run.append_failures(
        0, "grader 'mine:grade': all of 16 grades failed in the same way: crash (E: no)", all_failed=True
    )
    finding = grader_failures(History(run, []))
    assert finding.level == "problem" and "crash (E: no): the run stopped there" in finding.text


def test_the_last_error_is_quoted(history):
    found = history(lambda *_: {"grade/crash": 0.1})
    found.run.append_failures(50, "3 grades failed, the first on problem 7: crash (E: no)")
    assert grader_failures(found).text.endswith("in step 50: 3 grades failed, the first on problem 7: crash (E: no)")


NUMBERS = {"groups/constant": 2, "groups/all_wrong": 24, "groups/all_correct": 0, "accuracy/mean": 0.0}


def test_groups_without_a_right_answer_are_not_dead_where_graders_give_numbers(history):
    assert dead_groups(history(lambda *_: NUMBERS)) is None
    finding = dead_groups(history(lambda *_: NUMBERS | {"groups/constant": 22}))
    assert "22 have one reward alone" in finding.text


def test_success_cannot_be_told_where_no_number_counts_as_right(history):
    with pytest.raises(CannotTell, match="none of which counts as right"):
        reward_collapse(history(lambda *_: NUMBERS))
