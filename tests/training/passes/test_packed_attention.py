import pytest
import torch
from tests.conftest import random_model
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

from fipo.training.passes import packed_attention as module
from fipo.training.passes.packed_attention import (
    ATTENTION,
    Geometry,
    attending_within_sequences,
    forward,
    packed_attention,
)
from fipo.training.passes.segments import Segment

LENGTHS = [5, 1, 37, 12, 3, 20]
ANCESTORS = [[], [], [], [2], [2, 3], [2]]  # of each segment
SEGMENTS = [Segment(length=n, parent=(a or [None])[-1]) for n, a in zip(LENGTHS, ANCESTORS, strict=True)]


def random_heads(heads: int, device: str, dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(heads)
    return torch.randn(1, heads, sum(LENGTHS), 16, generator=generator).to(device, dtype).requires_grad_()


def attend(device: str, dtype: torch.dtype) -> list[torch.Tensor]:
    """The mixture [1, S, H, D] and the gradients of query, key and value."""
    query, key, value = (random_heads(heads, device, dtype) for heads in (4, 2, 2))
    geometry = Geometry(SEGMENTS, torch.device(device))
    mixed, _ = packed_attention(torch.nn.Module(), query, key, value, None, scaling=0.25, geometry=geometry)
    mixed.float().square().sum().backward()
    return [mixed, query.grad, key.grad, value.grad]


def test_positions_go_on_from_the_ancestors() -> None:
    segments = [Segment(length=3), Segment(length=1), Segment(length=2, parent=0), Segment(length=2, parent=2)]
    assert Geometry(segments, torch.device("cpu")).positions().tolist() == [[0, 1, 2, 0, 3, 4, 5, 6]]


@pytest.mark.parametrize("block", [2, 16, 512])
def test_a_token_sees_its_ancestors_and_its_own_segment_up_to_itself(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.BLOCK, "cpu", block)
    query, key, value = (random_heads(heads, "cpu", torch.float64) for heads in (4, 2, 2))
    geometry = Geometry(SEGMENTS, torch.device("cpu"))
    mixed, _ = packed_attention(torch.nn.Module(), query, key, value, None, scaling=0.25, geometry=geometry)
    owner = torch.arange(len(LENGTHS)).repeat_interleave(torch.tensor(LENGTHS)).tolist()
    visible = torch.tensor(
        [[(b == a and j <= i) or b in ANCESTORS[a] for j, b in enumerate(owner)] for i, a in enumerate(owner)]
    )
    keys, values = (x.repeat_interleave(2, dim=1) for x in (key, value))
    weights = (0.25 * query @ keys.transpose(2, 3)).masked_fill(~visible, float("-inf")).softmax(-1)
    torch.testing.assert_close(mixed, (weights @ values).transpose(1, 2), atol=1e-12, rtol=1e-12)


def test_flash_attention_is_told_the_same_keys() -> None:
    flash = Geometry(SEGMENTS, torch.device("cpu")).flash
    starts = [sum(LENGTHS[:i]) for i in range(len(LENGTHS))]
    tokens = [list(range(start, start + length)) for start, length in zip(starts, LENGTHS, strict=True)]
    seen = [[place for a in [*ancestors, i] for place in tokens[a]] for i, ancestors in enumerate(ANCESTORS)]
    assert [part.tolist() for part in flash["places"].split(flash["cu_seq_k"].diff().tolist())] == seen
    assert flash["cu_seq_q"].diff().tolist() == LENGTHS
    assert (flash["max_q"], flash["max_k"]) == (37, 37 + 20)


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


class Looks(TorchDispatchMode):
    """Counts how often a value is looked at on the host, for which a GPU has to be waited for."""

    count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function.overloadpacket.__name__ in ("_local_scalar_dense", "is_nonzero")
        return function(*args, **(kwargs or {}))


def test_a_forward_pass_over_segments_looks_at_no_value(any_model: PreTrainedModel) -> None:
    ids = torch.full((1, sum(segment.length for segment in SEGMENTS)), 5)
    with torch.no_grad(), Looks() as looks:
        forward(any_model, any_model, ids, SEGMENTS)
    assert looks.count == 0
