import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fipo.objective import future_kl


def sequential_scan(x, half_life):
    """F_t = x_t + gamma F_(t+1), token by token in float64."""
    gamma = 2.0 ** (-1 / half_life)
    carry = torch.zeros(x.shape[0], dtype=torch.float64)
    columns = []
    for t in reversed(range(x.shape[1])):
        carry = x[:, t].double() + gamma * carry
        columns.append(carry)
    return torch.stack(columns[::-1], dim=1)


def test_a_hand_worked_row():
    x = torch.tensor([[1.0, 1.0, 1.0], [4.0, 0.0, -2.0]])
    assert future_kl(x, half_life=1.0).tolist() == [[1.75, 1.5, 1.0], [3.5, -1.0, -2.0]]


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 2e-6), (torch.bfloat16, 2e-6)]
)
@pytest.mark.parametrize("half_life", [0.5, 1, 8, 32, 256, 4096])
def test_it_is_the_sequential_scan(dtype, tolerance, half_life):
    x = torch.randn(3, 1500, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    expected = sequential_scan(x, half_life)
    error = (future_kl(x, half_life).double() - expected).abs().max()
    assert error <= tolerance * expected.abs().max()


@pytest.mark.parametrize("half_life", [0.5, 32, 4096])
def test_it_agrees_with_the_scan_on_a_long_response(half_life):
    x = 0.05 * torch.randn(1, 20480, generator=torch.Generator().manual_seed(2))
    expected = sequential_scan(x, half_life)
    assert (future_kl(x, half_life).double() - expected).abs().max() <= 3e-6 * expected.abs().max()


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 9, 63, 64, 65])
def test_every_length_works(length):
    x = torch.randn(2, length, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    torch.testing.assert_close(future_kl(x, 5.0), sequential_scan(x, 5.0), rtol=1e-12, atol=1e-12)


def test_an_infinite_half_life_is_the_plain_sum():
    x = torch.arange(1.0, 12.0)[None]
    assert torch.equal(future_kl(x, math.inf), x.flip(1).cumsum(1).flip(1))


def test_one_half_life_halves_also_for_bf16_input():
    """In bf16 gamma itself would round to 0.9805, a half-life of 35."""
    impulse = torch.zeros(1, 100, dtype=torch.bfloat16)
    impulse[0, -1] = 1
    result = future_kl(impulse, 32.0)
    assert result.dtype == torch.float32
    assert result[0, -1 - 32].item() == pytest.approx(0.5, rel=1e-6)
    assert result[0, -1 - 96].item() == pytest.approx(0.125, rel=1e-6)


@pytest.mark.parametrize(("dtype", "half_lives"), [(torch.float32, 40), (torch.float64, 90)])
def test_a_token_counts_to_far_below_the_rounding_of_the_dtype(dtype, half_lives):
    impulse = torch.zeros(1, 1024, dtype=dtype)
    impulse[0, -1] = -20.0
    got = future_kl(impulse, 8.0)[0, -1 - 8 * half_lives].item()
    assert got == pytest.approx(-20.0 * 2.0**-half_lives, rel=1e-5)


def test_independent_noise_is_amplified_by_four_point_86_at_a_half_life_of_32():
    noise = torch.randn(64, 4096, generator=torch.Generator().manual_seed(4))
    inner = future_kl(noise, 32.0)[:, :3072]
    assert inner.std().item() == pytest.approx(4.86, rel=0.03)


def test_only_the_future_and_the_token_itself_count():
    x = torch.randn(1, 50, generator=torch.Generator().manual_seed(5))
    changed = x.clone()
    changed[0, 20] += 1
    moved = future_kl(changed, 8.0) != future_kl(x, 8.0)
    assert moved[0, :21].all()
    assert not moved[0, 21:].any()


def test_rows_do_not_touch():
    x = torch.randn(4, 50, generator=torch.Generator().manual_seed(6))
    assert torch.equal(future_kl(x, 8.0)[2:3], future_kl(x[2:3], 8.0))


def test_there_is_no_graph_and_the_input_is_not_touched():
    x = torch.randn(2, 33, generator=torch.Generator().manual_seed(7), requires_grad=True)
    before = x.detach().clone()
    result = future_kl(x, 8.0)
    assert not result.requires_grad
    result.zero_()
    assert torch.equal(x.detach(), before)


def test_a_single_token_comes_back_as_a_copy():
    x = torch.tensor([[2.0]])
    result = future_kl(x)
    result += 1
    assert x.item() == 2.0


@pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0)])
def test_an_empty_batch_is_empty(shape):
    assert future_kl(torch.zeros(shape)).shape == shape


def test_the_passes_grow_with_the_logarithm_of_the_length():
    class Passes(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.count += func is torch.ops.aten.add.out
            return func(*args, **(kwargs or {}))

    def passes(length, half_life):
        with Passes() as mode:
            future_kl(torch.zeros(1, length), half_life)
        return mode.count

    assert passes(1024, 4096.0) == 10
    assert passes(2**20, 1e9) == 20
    assert passes(2**20, 32.0) == 11  # enough once gamma^s has vanished


def test_the_shape_and_the_half_life_are_checked():
    with pytest.raises(ValueError, match=r"^log_ratio must have shape \[B, T\], got \[5\]$"):
        future_kl(torch.zeros(5))
    with pytest.raises(ValueError, match=r"^half_life must be > 0 tokens, got -3$"):
        future_kl(torch.zeros(1, 5), half_life=-3)
