import pytest
import torch
from tests.conftest import random_model
from tests.training.passes.test_logprobs import a_pack
from torch import Tensor
from transformers import PreTrainedModel

from fipo.models.head import widen_head
from fipo.training.passes.exact import in_float32
from fipo.training.passes.logprobs import score
from fipo.training.passes.packing import Layout
from fipo.training.policy.lora import adapt
from fipo.training.policy.optimizer import MasterAdamW
from fipo.training.policy.table import LoraTable

HALF = [torch.bfloat16, torch.float16]


def logprobs(model: PreTrainedModel, layout: Layout) -> Tensor:
    return score(model, a_pack(layout), 1.0, entropy=False).logprobs.detach()


def rounded(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """As `from_pretrained` loads it: its weights in `dtype`, and what it computes positions with in float32."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    return model


@pytest.mark.parametrize("layout", ["padded", "packed"])
@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "llama", "gemma"])
def test_it_is_the_float32_model_with_the_masters_as_weights_bit_for_bit(
    architecture: str, dtype: torch.dtype, layout: Layout
) -> None:
    model, wide = rounded(random_model(architecture), dtype), random_model(architecture)
    widen_head(model)
    masters = MasterAdamW(model, lr=1e-3, weight_decay=0.0).masters
    with torch.no_grad():
        for name, parameter in wide.named_parameters():
            masters[name].copy_(parameter)
    with in_float32(model, masters):
        found = logprobs(model, layout)
    assert torch.equal(found, logprobs(wide, layout))
    assert not torch.equal(found, logprobs(model, layout))


def test_the_model_is_afterwards_what_it_was() -> None:
    model = random_model().bfloat16()
    masters = MasterAdamW(model, lr=1e-3, weight_decay=0.0).masters
    before, parameters = logprobs(model, "packed"), list(model.parameters())
    with pytest.raises(ZeroDivisionError), in_float32(model, masters):
        raise ZeroDivisionError
    assert all(a is b for a, b in zip(parameters, model.parameters(), strict=True))
    assert torch.equal(logprobs(model, "packed"), before)


@pytest.mark.parametrize("dtype", HALF)
def test_frozen_weights_are_used_as_they_are_rounded(dtype: torch.dtype) -> None:
    pytest.importorskip("peft")
    model = rounded(random_model(), dtype)
    adapt(model, LoraTable(rank=4))
    wide = rounded(rounded(random_model(), dtype), torch.float32)
    with in_float32(model, MasterAdamW(model, lr=1e-3, weight_decay=0.0).masters):
        found = logprobs(model, "packed")  # the adapters are 0 so far
    torch.testing.assert_close(found, logprobs(wide, "packed"), rtol=1e-4, atol=1e-4)
