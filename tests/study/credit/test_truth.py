import pytest
import torch

from fipo.study.credit.branches import truth_by_branches
from fipo.study.credit.critic import Critic
from fipo.study.credit.moments import moments
from fipo.study.credit.signals import Measured


def texts(sampled):
    return [sampled.groups[g].texts[m] for g, m in sampled.pack.rollouts]


def test_the_truth_is_0_on_all_but_the_digits_and_ends_with_the_reward(sampled):
    truth, mask = sampled.truth, sampled.pack.loss_mask
    assert len(texts(sampled)) >= 20
    for b, text in enumerate(texts(sampled)):
        digits = [i for i, character in enumerate(text) if character.isdigit()][:4]
        assert truth.decisions[b].nonzero()[:, 0].tolist() == digits
        assert not truth.advantages[b][~truth.decisions[b]].any()
        last = int(mask[b].sum()) - 1
        if len(digits) == 4 == len(text):
            assert truth.values[b, last] == truth.rewards[b]


def test_a_right_digit_gains_and_the_first_wrong_one_loses_all_that_was_left(sampled):
    truth, found = sampled.truth, 0
    first = truth.mistakes
    for b, (g, m) in enumerate(sampled.pack.rollouts):
        wanted, text = sampled.groups[g].problem.answer, sampled.groups[g].texts[m]
        if not text.isdigit():
            continue  # a letter has slipped in: places are no blocks then
        for j, (character, digit) in enumerate(zip(text, wanted, strict=False)):
            if text[:j] != wanted[:j]:
                assert truth.advantages[b, j] == 0
            elif character == digit:
                assert truth.advantages[b, j] > 0
            else:
                assert truth.advantages[b, j] == -truth.values[b, j] < 0
                assert first[b].nonzero().tolist() == [[j]]
                found += 1
    assert found > 5


def test_the_values_are_what_the_policys_own_responses_come_to(sampled):
    """A coarse check of the product: before the first digit, over all groups."""
    start = sampled.truth.values[:, 0]
    assert 0.2 < float(start.mean()) < 0.8


def test_branches_find_the_exact_advantages_of_whatever_was_in_doubt(sampled):
    exact, found = sampled.truth, truth_by_branches(sampled.trainer, sampled.pack, sampled.groups, branches=128, seed=0)
    clean = torch.tensor([text.isdigit() and len(text) == 4 for text in texts(sampled)])  # no letter has slipped in
    errors = (found.advantages - exact.advantages)[clean][exact.decisions[clean]]
    assert len(errors) > 60
    assert errors.abs().mean() < 0.01  # of advantages of .3 on average
    assert (found.mistakes == exact.mistakes)[clean].all(1).float().mean() > 0.9


def test_advantages_by_branches_add_up_to_the_reward_less_what_the_response_was_worth(sampled):
    found = truth_by_branches(sampled.trainer, sampled.pack, sampled.groups, branches=4, seed=0)
    assert torch.allclose(found.values[:, 0] + found.advantages.sum(1), found.rewards, atol=1e-5)
    assert not found.advantages[~sampled.pack.loss_mask].any()


def test_few_branches_say_on_average_what_many_say(sampled):
    """Of one branch mostly none leaves, and the one that does stands for more than was expected."""
    several = [truth_by_branches(sampled.trainer, sampled.pack, sampled.groups, branches=1, seed=i) for i in range(60)]
    many = truth_by_branches(sampled.trainer, sampled.pack, sampled.groups, branches=60, seed=100).advantages
    mean = torch.stack([one.advantages for one in several]).mean(0)
    assert (several[0].advantages == 0).float().mean() > (many == 0).float().mean()
    assert (mean - many).square().mean() < 0.05 * many.square().mean()


def test_a_critic_fits_the_rewards_of_the_responses_that_it_sees(sampled):
    """Its squared error falls below that of the share of right responses."""
    critic, mask = Critic(sampled.model.config.hidden_size, seed=0), sampled.pack.loss_mask
    for step in range(20):
        critic.fit(sampled.model, [sampled.pack], sampled.groups, step)
    wanted = sampled.truth.rewards[:, None].expand(mask.shape)[mask]
    values = critic.values(sampled.model, sampled.pack)
    assert (values[mask] - wanted).square().mean() < wanted.var()
    assert not values[~mask].any()


@pytest.fixture(scope="session")
def measured(sampled):
    """With log-ratios that are a hundredth of the truth plus noise."""
    mask, generator = sampled.pack.loss_mask, torch.Generator().manual_seed(0)
    noise = 0.01 * torch.randn(mask.shape, generator=generator)
    x = torch.where(mask, 0.1 * sampled.truth.advantages + noise, 0.0)
    return Measured(
        log_ratio=x,
        reference_ratio=2 * x,
        advantages=sampled.pack.advantages[:, None].expand(mask.shape) * mask,
        truth=sampled.truth.advantages,
        values=sampled.truth.values,
        critic=sampled.truth.values,
        rewards=sampled.truth.rewards,
        loss_mask=mask,
    )


def test_moments_of_groups_add_up_to_those_of_all(measured, sampled):
    rows = list(range(len(measured.loss_mask)))
    first = sampled.truth.mistakes
    whole = moments(measured, first, rows)
    halves = [moments(measured, first, part) for part in (rows[::2], rows[1::2])]
    for name, values in whole.items():
        if name != "responses":
            assert [a + b for a, b in zip(*(half[name] for half in halves), strict=True)] == pytest.approx(values)
    assert whole["ratio"][0] == int(measured.loss_mask.sum())
    assert len(whole["responses"]) == 2 * len(rows)
