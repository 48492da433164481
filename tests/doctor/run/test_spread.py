import pytest
import torch

from fipo.doctor.findings import CannotTell
from fipo.doctor.run.spread import flipped_control


def record(history, log_ratios, mini_batch=3):
    """Rollouts of the last steps: an iterable of rows per step, of that mini-batch."""
    for step, rows in enumerate(log_ratios, start=41):
        records = [
            {"response": "", "tokens": ["x"] * len(row), "log_ratio": row.tolist(), "mini_batch": mini_batch}
            for row in rows
        ]
        history.run.write_rollouts(step, records)


def independent(seed=0):
    """Log-ratios of fresh responses: 10 steps x 4 responses x 100 tokens."""
    return 0.05 * torch.randn(10, 4, 100, generator=torch.Generator().manual_seed(seed))


def drifting():
    """Log-ratios in which neighbours move together, ten at a time."""
    noise = 0.05 * torch.randn(10, 4, 10, generator=torch.Generator().manual_seed(0))
    return noise.repeat_interleave(10, dim=2)


def test_independent_log_ratios_have_a_spread_of_about_1(history):
    run = history()
    for seed in range(5):
        record(run, independent(seed))
        assert 0.85 < flipped_control(run).ratio < 1.15
        assert not flipped_control(run).far


def test_neighbours_that_move_together_spread_further(history):
    run = history()
    record(run, drifting())
    assert flipped_control(run).ratio > 1.5
    assert flipped_control(run).far


def test_neighbours_that_move_against_each_other_spread_less(history):
    run = history()
    record(run, independent() - independent().roll(1, dims=2))
    assert flipped_control(run).ratio < 0.8
    assert flipped_control(run).far


def test_where_the_moving_tokens_stand_does_not_matter(history):
    """Unlike shuffles, flips keep the sizes in their places: late tokens that move most are no finding."""
    run = history()
    record(run, independent() * torch.linspace(0, 2, 100))
    assert not flipped_control(run).far


def test_the_same_rollouts_give_the_same_answer(history):
    run = history()
    record(run, independent())
    assert flipped_control(run) == flipped_control(run)


def test_tokens_beyond_the_dual_clip_take_no_part_in_the_sum(history):
    clipped, without = independent(), independent()
    clipped[:, :, 50], without[:, :, 50] = 3.0, 0.0
    run = history()
    record(run, clipped)
    ratio = flipped_control(run).ratio
    record(run, without)
    assert ratio == pytest.approx(flipped_control(run).ratio)


def test_the_first_mini_batch_never_moved_and_is_left_out(history):
    first = history()
    record(first, independent(), mini_batch=0)
    with pytest.raises(CannotTell, match="no responses of a later mini-batch"):
        flipped_control(first)


def test_a_few_tokens_are_too_few(history):
    short = history()
    record(short, independent()[:, :, :10])
    with pytest.raises(CannotTell, match="400 of the 2,000 recorded tokens"):
        flipped_control(short)


def test_a_run_without_rollouts_says_so(history):
    with pytest.raises(CannotTell, match="rollouts/ holds no responses"):
        flipped_control(history())
