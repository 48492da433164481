import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fipo.objective import group_advantages

REPEATABLE = settings(derandomize=True, deadline=None, database=None, max_examples=40)
PROBLEMS = st.integers(2, 6).flatmap(
    lambda group: st.lists(
        st.lists(st.sampled_from([-1.0, -0.3, 0.0, 0.1, 1.0]), min_size=group, max_size=group),
        min_size=1,
        max_size=4,
    )
)


def test_a_hand_worked_group():
    rewards = torch.tensor([[1.0, -1.0, 1.0, 1.0]], dtype=torch.float64)  # mean 0.5, unbiased std 1
    expected = torch.tensor([[0.5, -1.5, 0.5, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(group_advantages(rewards), expected / (1 + 1e-6), rtol=1e-12, atol=0)
    torch.testing.assert_close(group_advantages(rewards, scale_by_std=False), expected, rtol=1e-12, atol=0)


@REPEATABLE
@given(PROBLEMS)
def test_it_is_the_formula_group_by_group(problems):
    rewards = torch.tensor(problems, dtype=torch.float64)
    for got, group in zip(group_advantages(rewards), problems, strict=True):
        mean = sum(group) / len(group)
        std = (sum((r - mean) ** 2 for r in group) / (len(group) - 1)) ** 0.5
        for a, r in zip(got.tolist(), group, strict=True):
            assert a == pytest.approx((r - mean) / (std + 1e-6), abs=1e-9)


@pytest.mark.parametrize("scale_by_std", [True, False])
@pytest.mark.parametrize("group", [3, 5, 6, 7, 11, 13])
def test_a_group_of_equal_rewards_gets_exactly_zero(group, scale_by_std):
    """The mean of equal float32 numbers need not be that number; divided by 1e-6 the error would be a signal."""
    rewards = torch.tensor([0.1, -0.7, 1 / 3])[:, None].expand(-1, group)
    advantages = group_advantages(rewards, scale_by_std=scale_by_std)
    assert torch.equal(advantages, torch.zeros(3, group))


def test_a_group_of_one_keeps_its_reward():
    rewards = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    torch.testing.assert_close(group_advantages(rewards), rewards / (1 + 1e-6), rtol=1e-12, atol=0)
    assert torch.equal(group_advantages(rewards, scale_by_std=False), rewards)


def test_low_precision_and_integer_rewards_are_upcast():
    rewards = torch.tensor([[1.0, -1.0, 0.5]])
    assert torch.equal(group_advantages(rewards.bfloat16()), group_advantages(rewards))
    integers = torch.tensor([[1, -1, 1]])
    assert torch.equal(group_advantages(integers), group_advantages(integers.float()))


def test_rewards_are_not_changed():
    rewards = torch.tensor([[1.0, 0.0, 0.5]])
    group_advantages(rewards)
    assert torch.equal(rewards, torch.tensor([[1.0, 0.0, 0.5]]))


def test_no_problems_give_no_advantages():
    assert group_advantages(torch.zeros(0, 4)).shape == (0, 4)


@pytest.mark.parametrize("shape", [[4], [2, 0], [1, 2, 3]])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError) as error:
        group_advantages(torch.zeros(shape))
    assert str(error.value) == f"rewards must have shape [P, G] with G >= 1, got {shape}"
