import pytest
import torch

from fipo.objective import FIPOConfig, LossInputs, fipo_influence, policy_loss
from fipo.study.controls import CONTROLS, averaged, past, shuffled, unguarded

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


@pytest.mark.parametrize("control", CONTROLS)
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
    for control in CONTROLS.values():
        assert torch.all(control.influence(still, *batch[1:], CFG)[batch[2]] == 1)


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


@pytest.mark.parametrize("control", CONTROLS)
def test_a_control_changes_the_loss(control, batch):
    log_ratio, advantages, mask = batch
    log_ratio[mask] *= 20  # some ratios beyond the dual clip
    inputs = LossInputs(logprobs=log_ratio, old_logprobs=0 * log_ratio, advantages=advantages, loss_mask=mask)
    ours = policy_loss(inputs, CFG)
    assert policy_loss(inputs, CFG, influence=CONTROLS[control].influence).loss != ours.loss
