import copy

import pytest
import torch
from tests.conftest import random_model
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm

from fipo.models.norm import fuse_norms

IDS = torch.tensor([[2, 7, 5, 9, 3]])


def uneven(architecture: str) -> torch.nn.Module:
    """A model whose norms have weights of their own."""
    model = random_model(architecture)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight += 0.3 * torch.randn_like(weight)
    return model


@pytest.mark.parametrize(("architecture", "norms"), [("qwen2", 5), ("qwen3", 9), ("llama", 5)])
def test_in_float32_on_a_cpu_it_is_the_model_and_its_gradient_up_to_rounding(architecture, norms):
    model, fused = uneven(architecture), uneven(architecture)
    assert fuse_norms(fused) == norms
    results = []
    for one in (model, fused):
        logits = one(input_ids=IDS).logits
        logits.square().sum().backward()
        results.append([logits.detach(), *(weight.grad for weight in one.parameters())])
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=float(expected.abs().max()) * 4e-6, rtol=0)


def test_of_nothing_but_zeros_it_makes_zeros_and_finite_gradients():
    norm = uneven("llama").model.norm
    model = torch.nn.Sequential(norm)
    assert fuse_norms(model) == 1
    zeros = torch.zeros(1, 2, len(norm.weight), requires_grad=True)
    out = model(zeros)
    out.sum().backward()
    assert not out.any()
    assert zeros.grad.isfinite().all()


def test_what_is_not_the_same_operation_stays():
    assert fuse_norms(random_model("gemma")) == 0  # its weights count from 1
    assert any(isinstance(module, GemmaRMSNorm) for module in random_model("gemma").modules())
    assert fuse_norms(random_model().double()) == 0  # the module goes through float32
    assert fuse_norms(random_model().bfloat16()) == 0  # one rounding more than the module's


def test_a_copy_and_a_saved_model_are_those_of_the_model(tmp_path):
    model = uneven("llama")
    fuse_norms(model)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for weight in twin.parameters():
            weight.mul_(0.5)
    assert not torch.equal(twin(input_ids=IDS).logits, model(input_ids=IDS).logits)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    torch.testing.assert_close(loaded(input_ids=IDS).logits, model(input_ids=IDS).logits)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_on_cuda_it_is_the_model_up_to_rounding(dtype):
    model, fused = (uneven("qwen3").to("cuda", dtype) for _ in range(2))
    assert fuse_norms(fused) == 9
    expected, found = (one(input_ids=IDS.cuda()).logits.float() for one in (model, fused))
    torch.testing.assert_close(found, expected, atol=float(expected.abs().max()) * 8 * torch.finfo(dtype).eps, rtol=0)
