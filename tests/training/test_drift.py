import math

import pytest
import torch
from tests.training.helpers import random_groups

from fipo.objective import FIPOConfig, LossInputs, group_advantages, policy_loss
from fipo.training.drift import drift_metrics
from fipo.training.passes.logprobs import Scores
from fipo.training.passes.packing import pack
from fipo.training.update import TrainedPack

GROUPS, SIZE = 40, 8


def packs(log_ratio_of, *, gap=0.0, seed=0):
    """Trained packs of random responses; `log_ratio_of(mask, advantages, generator)` is x, [B, K]."""
    generator = torch.Generator().manual_seed(seed)
    rewards = torch.randint(0, 2, (GROUPS, SIZE), generator=generator).double()
    rewards[:, 0], rewards[:, 1] = 0.0, 1.0
    [made] = pack(
        random_groups(GROUPS, SIZE, seed=seed, longest=30),
        group_advantages(rewards),
        mini_batches=1,
        tokens_per_micro_batch=600,
        mask_truncated=False,
        layout="padded",
        device=torch.device("cpu"),
    )
    assert len(made) > 5
    found = []
    for one in made:
        old = one.rollout_logprobs - gap
        x = log_ratio_of(one.loss_mask, one.advantages, generator)
        inputs = LossInputs(
            logprobs=old + x, old_logprobs=old, advantages=one.advantages.float(), loss_mask=one.loss_mask
        )
        output = policy_loss(inputs, FIPOConfig.dapo())
        found.append(TrainedPack(pack=one, old=Scores(logprobs=old, entropy=None), output=output))
    return found


def fair(deviation=0.05):
    """Ratios whose expectation is 1: what fresh responses that are used once have."""
    return lambda mask, _, generator: deviation * torch.randn(mask.shape, generator=generator) - deviation**2 / 2


def knowing(strength):
    """Good responses moved up and bad ones down, a little in every token."""
    return lambda mask, advantages, generator: strength * advantages[:, None] + fair()(mask, None, generator)


def test_fair_ratios_have_a_mean_within_its_interval_in_19_of_20_steps():
    outside = 0
    for seed in range(40):
        found = drift_metrics(packs(fair(), seed=seed))
        outside += not found["fipo/ratio_mean/low"] <= found["fipo/ratio_mean"] <= found["fipo/ratio_mean/high"]
    assert outside <= 5


def test_ratios_of_responses_that_were_not_drawn_fairly_have_another_mean():
    found = drift_metrics(packs(lambda mask, *_: torch.full(mask.shape, 0.01)))
    assert found["fipo/ratio_mean"] == pytest.approx(math.exp(0.01))
    assert found["fipo/ratio_mean"] > found["fipo/ratio_mean/high"]


def test_the_interval_makes_room_for_what_rounding_of_the_samplers_size_adds():
    exact, rounded = (drift_metrics(packs(fair(), gap=gap)) for gap in (0.0, 0.1))
    wider = rounded["fipo/ratio_mean/high"] - exact["fipo/ratio_mean/high"]
    assert wider == pytest.approx(0.1**2 / 2, rel=1e-4)
    assert rounded["fipo/ratio_mean/low"] - exact["fipo/ratio_mean/low"] == pytest.approx(-wider)


def test_log_ratios_that_know_nothing_of_the_reward_have_a_signal_within_chance_in_19_of_20_steps():
    outside = 0
    for seed in range(40):
        found = drift_metrics(packs(fair(), seed=seed))
        outside += not abs(found["fipo/response_signal"]) <= found["fipo/response_signal/high"]
    assert outside <= 5


def test_log_ratios_that_know_it_have_a_signal_above_chance():
    found = drift_metrics(packs(knowing(0.02)))
    assert found["fipo/response_signal"] > 2 * found["fipo/response_signal/high"]
    assert found["fipo/response_signal/low"] == -found["fipo/response_signal/high"]


def test_the_signal_is_the_correlation_within_groups_whatever_moves_whole_groups():
    alone, shifted = packs(knowing(0.02)), packs(knowing(0.02))
    for one in shifted:  # a shift of a group's summed log-ratios, which says nothing of its members
        group = torch.tensor([float(g) for g, _ in one.pack.rollouts])
        lengths = one.pack.loss_mask.sum(1)
        one.output.fields.log_ratio.add_((group / lengths)[:, None] * one.pack.loss_mask)
    signals = [drift_metrics(one)["fipo/response_signal"] for one in (alone, shifted)]
    assert signals[0] == pytest.approx(signals[1], rel=1e-4)


def test_how_a_mini_batch_is_cut_does_not_matter():
    whole = packs(knowing(0.02))
    assert drift_metrics(whole[::-1]) == pytest.approx(drift_metrics(whole))


def test_where_nothing_moved_there_is_nothing_to_say():
    assert drift_metrics([]) == {}
    assert drift_metrics(packs(lambda mask, *_: torch.zeros(mask.shape))) == {}
