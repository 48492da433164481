from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

from fipo.models.attention import attend


@pytest.mark.parametrize(("device", "heads", "shared"), [("cuda", 4, False), ("cpu", 2, True)])
def test_on_cuda_no_kernel_is_asked_for_heads_that_share_keys(
    device: str, heads: int, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that cannot would make all scores at once. Tensors without numbers stand for those of a GPU."""
    asked: list[tuple[int, bool]] = []

    def attention(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **options: Any) -> torch.Tensor:
        asked.append((key.shape[1], options["enable_gqa"]))
        return query

    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
    with FakeTensorMode():
        query, keys = (torch.empty(1, n, 8, 16, device=device) for n in (4, 2))
        attend(query, keys, keys, mask=None, scale=None)
    assert asked == [(heads, shared)]
