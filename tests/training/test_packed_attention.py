import pytest
import torch
from tests.conftest import random_model

from fipo.training.packed_attention import ATTENTION, attending_within_sequences, packed_attention, sequence_arguments

LENGTHS = [5, 1, 37, 12]


def random_heads(heads: int, device: str, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(heads)
    return torch.randn(1, heads, sum(LENGTHS), 16, generator=generator).to(device, dtype).requires_grad_()


def attend(device: str, dtype: torch.dtype) -> list[torch.Tensor]:
    """The mixture [1, S, H, D] and the gradients of query, key and value."""
    query, key, value = (random_heads(heads, device, dtype) for heads in (4, 2, 2))
    arguments = sequence_arguments(LENGTHS, torch.device(device))
    mixed, _ = packed_attention(torch.nn.Module(), query, key, value, None, scaling=0.25, **arguments)
    mixed.float().square().sum().backward()
    return [mixed, query.grad, key.grad, value.grad]


def test_positions_begin_anew_in_each_sequence() -> None:
    arguments = sequence_arguments([3, 1, 2], torch.device("cpu"))
    assert arguments["position_ids"].tolist() == [[0, 1, 2, 0, 0, 1]]
    assert arguments["cu_seq_lens_q"].tolist() == [0, 3, 4, 6]
    assert arguments["max_length_q"] == 3


def test_a_token_sees_its_own_sequence_up_to_itself() -> None:
    query, key, value = (random_heads(heads, "cpu", torch.float64) for heads in (4, 2, 2))
    arguments = sequence_arguments(LENGTHS, torch.device("cpu"))
    mixed, _ = packed_attention(torch.nn.Module(), query, key, value, None, scaling=0.25, **arguments)
    sequence = torch.arange(len(LENGTHS)).repeat_interleave(torch.tensor(LENGTHS))
    visible = (sequence[:, None] == sequence) & torch.ones(len(sequence), len(sequence), dtype=torch.bool).tril()
    keys, values = (x.repeat_interleave(2, dim=1) for x in (key, value))
    weights = (0.25 * query @ keys.transpose(2, 3)).masked_fill(~visible, float("-inf")).softmax(-1)
    torch.testing.assert_close(mixed, (weights @ values).transpose(1, 2), atol=1e-12, rtol=1e-12)


def test_the_attention_is_put_back_afterwards() -> None:
    model = random_model()
    before = model.config._attn_implementation
    with attending_within_sequences(model, on=True), attending_within_sequences(model, on=True):
        assert model.config._attn_implementation == ATTENTION
    assert model.config._attn_implementation == before


@pytest.mark.gpu
def test_flash_attention_on_cuda_agrees_with_one_sequence_after_the_other() -> None:
    for fast, exact in zip(attend("cuda", torch.bfloat16), attend("cpu", torch.float32), strict=True):
        torch.testing.assert_close(fast.float().cpu(), exact, atol=0.05, rtol=0.05)
