import pytest
import torch

from fipo.doctor.findings import CannotTell
from fipo.doctor.run.noise import shuffled_control
from fipo.doctor.run.rules_weights import weights_are_noise

MOVING = {"fipo/influence_weight/std": 0.05}


def record(history, log_ratios, mini_batch=3):
    """Rollouts of the last steps: an iterable of rows per step, of that mini-batch."""
    for step, rows in enumerate(log_ratios, start=41):
        records = [
            {"response": "", "tokens": ["x"] * len(row), "log_ratio": row.tolist(), "mini_batch": mini_batch}
            for row in rows
        ]
        history.run.write_rollouts(step, records)


def independent(seed=0):
    """Log-ratios as noise makes them: 10 steps x 4 responses x 100 tokens."""
    return 0.05 * torch.randn(10, 4, 100, generator=torch.Generator().manual_seed(seed))


def drifting():
    """Log-ratios in which neighbours move together, ten at a time."""
    noise = 0.05 * torch.randn(10, 4, 10, generator=torch.Generator().manual_seed(0))
    return noise.repeat_interleave(10, dim=2)


def test_independent_noise_is_named_with_its_numbers(history):
    noisy = history(lambda *_: MOVING)
    record(noisy, independent())
    finding = weights_are_noise(noisy)
    assert finding.level == "warning"
    assert finding.steps == (41, 50)
    assert "39 shuffles; 40 responses, 4,000 tokens" in finding.text


def test_weights_that_hardly_differ_from_1_make_it_a_note(history):
    noisy = history()
    record(noisy, independent())
    assert weights_are_noise(noisy).level == "note"


def test_neighbours_that_move_together_are_no_noise(history):
    moving = history(lambda *_: MOVING)
    record(moving, drifting())
    assert weights_are_noise(moving) is None
    assert shuffled_control(moving).ratio > 1.5


def test_neighbours_that_move_against_each_other_are_no_noise(history):
    moving = history(lambda *_: MOVING)
    noise = independent()
    record(moving, noise - noise.roll(1, dims=2))
    assert weights_are_noise(moving) is None
    assert shuffled_control(moving).ratio < 0.8


def test_the_same_rollouts_give_the_same_answer(history):
    noisy = history()
    record(noisy, independent())
    assert shuffled_control(noisy) == shuffled_control(noisy)


def test_most_noises_are_called_noise(history):
    """By chance one in twenty is not."""
    noisy, found = history(), 0
    for seed in range(5):
        record(noisy, independent(seed))
        found += shuffled_control(noisy).indistinguishable
    assert found >= 4


def test_tokens_beyond_the_dual_clip_take_no_part_in_the_sum(history):
    clipped, without = independent(), independent()
    clipped[:, :, 50], without[:, :, 50] = 3.0, 0.0
    run = history()
    record(run, clipped)
    ratio = shuffled_control(run).ratio
    record(run, without)
    assert ratio == pytest.approx(shuffled_control(run).ratio)


def test_the_first_mini_batch_never_moved_and_is_left_out(history):
    first = history()
    record(first, independent(), mini_batch=0)
    with pytest.raises(CannotTell, match="no responses of a later mini-batch"):
        shuffled_control(first)


def test_a_few_tokens_are_too_few(history):
    short = history()
    record(short, independent()[:, :, :10])
    with pytest.raises(CannotTell, match="400 of the 2,000 recorded tokens"):
        shuffled_control(short)


def test_a_run_without_rollouts_says_so(history):
    with pytest.raises(CannotTell, match="rollouts/ holds no responses"):
        weights_are_noise(history())


def test_a_dapo_run_has_no_weights_to_judge(history):
    with pytest.raises(CannotTell, match="every weight is 1"):
        weights_are_noise(history(lambda *_: {"fipo/influence_weight/std": 0.0}))
