import dataclasses

import pytest
import torch
from pydantic import ValidationError
from tests.training.helpers import random_groups

from fipo.grading.grade import Grade, Outcome
from fipo.rollout.table import RolloutTable
from fipo.training.reward import RewardTable, group_rewards, overlong_penalty

ROLLOUT = RolloutTable(groups=2, group_size=4, generation_batch=2, max_prompt_tokens=8, max_response_tokens=12)


def test_a_correct_answer_earns_one_and_any_other_minus_one() -> None:
    groups = random_groups(3, 4)
    expected = [[1.0 if grade.correct else -1.0 for grade in group.grades] for group in groups]
    assert group_rewards(groups, ROLLOUT, RewardTable()).tolist() == expected


@pytest.mark.parametrize("outcome", ["timeout", "crash"])
def test_a_failed_grade_earns_nothing_and_costs_nothing(outcome: Outcome) -> None:
    (group,) = random_groups(1, 4)
    failed = dataclasses.replace(group, grades=[*group.grades[:3], Grade(outcome=outcome, answer=None)])
    assert group_rewards([failed], ROLLOUT, RewardTable())[0, 3] == 0.0


def test_no_groups_give_an_empty_table_of_rewards() -> None:
    assert group_rewards([], ROLLOUT, RewardTable()).shape == (0, 4)


@pytest.mark.parametrize(
    ("length", "penalty"), [(0, 0.0), (80, 0.0), (81, -0.05), (90, -0.5), (99, -0.95), (100, -1.0)]
)
def test_the_overlong_penalty_is_linear_over_the_buffer(length: int, penalty: float) -> None:
    assert overlong_penalty(length, max_tokens=100, buffer=20) == pytest.approx(penalty)


def test_without_a_buffer_the_longest_response_is_not_punished() -> None:
    assert overlong_penalty(100, max_tokens=100, buffer=0) == 0


def test_the_penalty_is_added_to_the_reward() -> None:
    groups = random_groups(3, 4)
    plain = group_rewards(groups, ROLLOUT, RewardTable())
    penalised = group_rewards(groups, ROLLOUT, RewardTable(overlong_buffer=6))
    lengths = torch.tensor([[len(response.tokens) for response in group.responses] for group in groups])
    torch.testing.assert_close(penalised - plain, -((lengths - 6).clamp(min=0) / 6))
    assert bool((penalised < plain).any())


def test_a_number_of_a_grader_is_the_reward() -> None:
    (group,) = random_groups(1, 4)
    numbered = dataclasses.replace(group, grades=[Grade(outcome="wrong", answer=None, score=0.25)] * 4)
    assert group_rewards([numbered], ROLLOUT, RewardTable()).tolist() == [[0.25] * 4]


def test_graders_of_one_name_would_share_a_metric_and_are_refused() -> None:
    graders = [{"name": "mine:near"}, {"name": "yours:near"}]
    with pytest.raises(ValidationError, match="graders must have different names, got 'near' twice"):
        RewardTable.model_validate({"graders": graders})
