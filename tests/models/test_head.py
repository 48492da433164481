import copy

import pytest
import torch
from tests.conftest import random_model
from torch import nn
from transformers import Gemma2Config, Gemma2ForCausalLM

from fipo.models.head import WideHead, widen_head

IDS = torch.tensor([[3, 4, 5, 6, 7, 8]])
HALF = [torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", HALF)
def test_logits_are_those_of_the_float32_product_of_what_the_model_holds(dtype: torch.dtype) -> None:
    model = random_model(scale=2.0).to(dtype)
    hidden = model.get_decoder()(input_ids=IDS).last_hidden_state
    exact = (hidden.double() @ model.get_output_embeddings().weight.double().T).detach()
    assert widen_head(model)
    logits = model(input_ids=IDS).logits.detach()
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits.double(), exact, rtol=1e-5, atol=1e-5)
    assert float((logits.to(dtype).double() - exact).abs().max()) > 10 * float((logits.double() - exact).abs().max())


@pytest.mark.parametrize("dtype", HALF)
def test_its_gradients_are_those_of_float32_but_for_the_rounding_of_the_model(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(2, 5, 32).to(dtype).requires_grad_()
    head = WideHead(32, 48, bias=True).to(dtype)
    wide, weight, bias = (x.detach().float().requires_grad_() for x in (hidden, head.weight, head.bias))
    for logits in (head(hidden), nn.functional.linear(wide, weight, bias)):
        logits.log_softmax(-1)[..., 7].sum().backward()
    tolerance = 8 * torch.finfo(dtype).eps
    for ours, exact in ((hidden, wide), (head.weight, weight), (head.bias, bias)):
        assert float((ours.grad.float() - exact.grad).norm() / exact.grad.norm()) < tolerance


@pytest.mark.parametrize("architecture", ["qwen2", "gemma"])
def test_names_and_tied_weights_stay(architecture: str) -> None:
    model = random_model(architecture)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    names = list(model.state_dict())
    assert widen_head(model)
    assert list(model.state_dict()) == names
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    again = copy.deepcopy(model)
    assert again.get_output_embeddings().weight is again.get_input_embeddings().weight


def test_a_float32_model_computes_what_it_did_bit_for_bit() -> None:
    model = random_model()
    before = model(input_ids=IDS).logits
    widen_head(model)
    assert torch.equal(model(input_ids=IDS).logits, before)


def test_logits_that_are_capped_after_the_head_are_capped_in_float32() -> None:
    torch.manual_seed(0)
    shape = {"vocab_size": 48, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 8}
    config = Gemma2Config(**shape, num_attention_heads=4, num_key_value_heads=2, final_logit_softcapping=2.0)
    model = Gemma2ForCausalLM(config).eval().bfloat16()
    assert widen_head(model)
    assert model(input_ids=IDS).logits.dtype == torch.float32


def test_an_output_layer_of_another_kind_is_left_alone() -> None:
    model = random_model().bfloat16()
    model.set_output_embeddings(nn.Sequential(model.get_output_embeddings()))
    assert not widen_head(model)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", HALF)
def test_on_cuda_it_is_the_product_of_the_cpu(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    head = WideHead(64, 96, bias=False).to(dtype)
    hidden = torch.randn(2, 5, 64).to(dtype)
    on_cpu = head(hidden)
    torch.testing.assert_close(head.cuda()(hidden.cuda()).cpu(), on_cpu, rtol=1e-5, atol=1e-5)
