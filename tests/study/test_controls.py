from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from fipo.data.made.relay import relay
from fipo.errors import UserError
from fipo.grading.answers.relay import grade_relay
from fipo.objective import FIPOConfig, LossInputs, fipo_influence, policy_loss
from fipo.rollout.groups import Group, GroupBatch
from fipo.rollout.sampler import Response
from fipo.study.controls import CONTROLS, averaged, past, shuffled, unguarded
from fipo.study.token_advantages import branched_truth, relay_truth, relay_truth_bounded

CFG = FIPOConfig(influence_clip=None)


@pytest.fixture
def batch():
    """(log_ratio, advantages, loss_mask) of 5 responses with holes in the mask, [5, 30] each."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.rand(5, 30, generator=generator) < 0.8
    log_ratio = torch.where(mask, 0.1 * torch.randn(5, 30, generator=generator, dtype=torch.float64), 0.0)
    advantages = torch.where(mask, torch.tensor([1.0, -1.0, 0.5, -0.5, 2.0]).double()[:, None], 0.0)
    return log_ratio, advantages, mask


def test_shuffled_weights_are_the_same_ones_on_other_tokens_of_the_same_response(batch):
    ours, control, mask = fipo_influence(*batch, CFG), shuffled(*batch, CFG), batch[2]
    for own, other, trained in zip(ours, control, mask, strict=True):
        assert sorted(own[trained].tolist()) == sorted(other[trained].tolist())
        assert own[trained].tolist() != other[trained].tolist()


WEIGHTS = [name for name, control in CONTROLS.items() if control.influence]


@pytest.mark.parametrize("control", WEIGHTS)
def test_a_control_gives_a_response_the_same_weights_whatever_it_is_batched_with(control, batch):
    influence, mask = CONTROLS[control].influence, batch[2]
    whole = influence(*batch, CFG)
    alone = torch.cat([influence(*(part[i : i + 1] for part in batch), CFG) for i in range(5)])
    assert torch.equal(whole[mask], alone[mask])


def test_averaged_weights_are_one_number_for_a_response_the_mean_of_its_own(batch):
    ours, control, mask = fipo_influence(*batch, CFG), averaged(*batch, CFG), batch[2]
    for own, other, trained in zip(ours, control, mask, strict=True):
        assert other[trained].tolist() == pytest.approx([float(own[trained].mean())] * int(trained.sum()))


def test_the_past_is_the_future_of_the_response_read_backwards(batch):
    log_ratio, advantages, mask = batch
    backwards = fipo_influence(log_ratio.flip(1), advantages.flip(1), mask.flip(1), CFG).flip(1)
    assert torch.equal(past(*batch, CFG)[mask], backwards[mask])


def test_without_movement_every_control_is_one(batch):
    still = torch.zeros_like(batch[0])
    for name in WEIGHTS:
        assert torch.all(CONTROLS[name].influence(still, *batch[1:], CFG)[batch[2]] == 1)


def test_unguarded_weights_differ_from_ours_where_a_ratio_passes_the_dual_clip_or_the_threshold(batch):
    log_ratio, advantages, mask = batch
    assert torch.equal(unguarded(*batch, CFG), fipo_influence(*batch, CFG))
    log_ratio[1, 12] = 3.0  # a ratio of 20, advantage -1
    mask[1, 12] = True
    advantages[1, 12] = -1.0
    ours, control = fipo_influence(*batch, CFG), unguarded(*batch, CFG)
    assert torch.equal(ours[[0, 2, 3, 4]], control[[0, 2, 3, 4]])
    assert float(ours[1, 12]) <= 1 < float(control[1, 12])
    assert float(control[1, 10]) > float(ours[1, 10])


WEIGHTS = [name for name, control in CONTROLS.items() if control.influence]


@pytest.mark.parametrize("control", WEIGHTS)
def test_a_control_changes_the_loss(control, batch):
    log_ratio, advantages, mask = batch
    log_ratio[mask] *= 20  # some ratios beyond the dual clip
    inputs = LossInputs(logprobs=log_ratio, old_logprobs=0 * log_ratio, advantages=advantages, loss_mask=mask)
    ours = policy_loss(inputs, CFG)
    assert policy_loss(inputs, CFG, influence=CONTROLS[control].influence).loss != ours.loss


def group_of(problem, *responses):
    """A group of these responses; one token a character, and one for the end."""
    return Group(
        problem=problem,
        prompt_tokens=[1],
        responses=[
            Response(tokens=[0] * (len(text) + 1), logprobs=[-1.0] * (len(text) + 1), truncated=False)
            for text in responses
        ],
        texts=list(responses),
        grades=[grade_relay(text, problem) for text in responses],
    )


@pytest.fixture
def relays():
    """One group with contrast, one without, and the group advantages of the former."""
    first, second = relay("train", 2)
    right = first.answer
    late = right[:3] + ("0" if right[3] != "0" else "1")
    kept = group_of(first, f"ab{right}", right, late, late)
    return GroupBatch(
        kept=[kept], generated=[kept, group_of(second, second.answer)], generation_batches=1
    ), torch.tensor([[0.87, 0.87, -0.87, -0.87]])


def test_true_advantages_stand_on_the_digits_that_decide_and_nowhere_else(relays):
    batch, advantages = relays
    [[lettered, right, late, _]] = relay_truth(None, batch, advantages)
    # All first three blocks are right in this step, the fourth in 3 of 5; the group's deviation is 2 / sqrt(3).
    assert right == pytest.approx([0.0, 0.0, 0.0, 0.4 * 3**0.5, 0.0])
    assert late == pytest.approx([0.0, 0.0, 0.0, -0.6 * 3**0.5, 0.0])
    assert lettered == pytest.approx([0.0, 0.0, *right])


def test_in_bounds_they_amplify_what_decided_and_leave_the_rest_as_dapo_has_it(relays):
    batch, advantages = relays
    [[_, right, late, _]] = relay_truth_bounded(None, batch, advantages)
    assert right == pytest.approx([0.87, 0.87, 0.87, 0.87 * 1.2, 0.87], abs=1e-4)
    assert late == pytest.approx([-0.87, -0.87, -0.87, -0.87 * 1.2, -0.87], abs=1e-4)


def test_there_are_no_true_advantages_of_other_problems(relays):
    batch, advantages = relays
    other = replace(batch.kept[0], problem=replace(batch.kept[0].problem, source="signed_sums"))
    with pytest.raises(UserError, match="needs relays"):
        relay_truth(None, GroupBatch(kept=[other], generated=[other], generation_batches=1), advantages)


def test_branches_are_not_asked_of_a_policy_that_samples_from_some_tokens_alone(relays):
    table = SimpleNamespace(temperature=1.0, top_p=0.9, top_k=0)
    with pytest.raises(UserError, match=r"got 1, 0\.9 and 0"):
        branched_truth(SimpleNamespace(recipe=SimpleNamespace(rollout=table)), *relays)
