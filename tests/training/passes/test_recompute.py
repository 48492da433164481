import pytest
import torch
from tests.conftest import random_model
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel

from fipo.errors import UserError
from fipo.training.passes.recompute import check_recomputing, recomputing

IDS = torch.tensor([[3, 4, 5, 6, 7, 8]])


def gradients(model: PreTrainedModel) -> list[torch.Tensor]:
    model.zero_grad()
    model(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def saved_elements(model: PreTrainedModel) -> int:
    """Elements that the forward pass keeps for the backward pass, weights left out."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = 0

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += 0 if tensor.untyped_storage().data_ptr() in weights else tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(input_ids=IDS, labels=IDS, use_cache=False)
    return kept


def test_recomputed_gradients_are_the_same_bits_with_less_kept(any_model: PreTrainedModel) -> None:
    plain, kept = gradients(any_model), saved_elements(any_model)
    check_recomputing(any_model)
    with recomputing(any_model, on=True):
        assert all(torch.equal(a, b) for a, b in zip(plain, gradients(any_model), strict=True))
        assert saved_elements(any_model) < kept / 2


def test_outside_the_model_keeps_its_cache_and_stays_in_evaluation_mode() -> None:
    model = random_model()
    with recomputing(model, on=True):
        pass
    assert not any(module.training for module in model.modules())
    assert model(input_ids=IDS, use_cache=True).past_key_values.get_seq_length() == IDS.shape[1]


def test_a_model_with_dropout_is_refused() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=48, n_positions=64, n_embd=16, n_layer=1, n_head=2)).eval()
    with pytest.raises(UserError, match=r"gradient_checkpointing: the model's dropout must be 0, got .*resid_pdrop"):
        check_recomputing(model)
