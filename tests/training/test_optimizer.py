import pytest
import torch
from tests.conftest import random_model
from transformers import PreTrainedModel

from fipo.training.optimizer import MasterAdamW

IDS = torch.tensor([[3, 4, 5, 6, 7, 8]])


def backward(model: PreTrainedModel, scale: float = 1.0) -> None:
    (model(input_ids=IDS, labels=IDS).loss * scale).backward()


def test_in_float32_it_is_adamw_bit_for_bit() -> None:
    results = []
    for make in (
        lambda model: MasterAdamW(model, lr=1e-2, weight_decay=0.1),
        lambda model: torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1),
    ):
        model = random_model()
        optimizer = make(model)
        for _ in range(3):
            optimizer.zero_grad()
            backward(model)
            optimizer.step()
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*results)


def test_steps_that_are_lost_in_bfloat16_add_up_in_the_masters() -> None:
    model = random_model().bfloat16()
    optimizer = MasterAdamW(model, lr=1e-4, weight_decay=0.0)
    name = "model.layers.0.mlp.up_proj.weight"
    weight, before = model.get_parameter(name), model.get_parameter(name).detach().clone()
    for _ in range(30):
        optimizer.zero_grad()
        backward(model)
        optimizer.step()
    master = optimizer.masters[name]
    assert master.dtype == torch.float32
    assert float((master - before.float()).abs().mean()) > 1e-3
    assert torch.equal(weight, master.bfloat16())


def test_gradients_add_up_in_float32_and_are_not_kept_in_bfloat16() -> None:
    model = random_model().bfloat16()
    optimizer = MasterAdamW(model, lr=1e-3, weight_decay=0.0)
    backward(model)
    once = {name: master.grad.clone() for name, master in optimizer.masters.items()}
    for _ in range(256):
        backward(model)
    for name, master in optimizer.masters.items():
        torch.testing.assert_close(master.grad, 257 * once[name], rtol=1e-5, atol=1e-6)  # 257 is not in bfloat16
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("begun", [torch.float32, torch.bfloat16])
def test_a_model_in_another_precision_takes_the_state_over(begun: torch.dtype) -> None:
    other = torch.bfloat16 if begun == torch.float32 else torch.float32
    model, continued = random_model(seed=1).to(begun), random_model(seed=2).to(other)
    optimizer, restored = (MasterAdamW(one, lr=1e-2, weight_decay=0.1) for one in (model, continued))
    backward(model)
    optimizer.step()
    continued.load_state_dict(model.state_dict())
    restored.load_state_tensors(optimizer.state_tensors())
    for name, master in restored.masters.items():
        torch.testing.assert_close(master, optimizer.masters[name], rtol=1e-2 if begun == torch.float32 else 0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_state_is_restored_bit_for_bit(dtype: torch.dtype) -> None:
    models = [random_model().to(dtype) for _ in range(2)]
    optimizers = [MasterAdamW(model, lr=1e-2, weight_decay=0.1) for model in models]
    backward(models[0])
    optimizers[0].step()
    models[1].load_state_dict(models[0].state_dict())
    optimizers[1].load_state_tensors({key: tensor.clone() for key, tensor in optimizers[0].state_tensors().items()})
    for model, optimizer in zip(models, optimizers, strict=True):
        optimizer.zero_grad()
        backward(model, scale=0.3)
        optimizer.step()
    first, second = (optimizer.state_tensors() for optimizer in optimizers)
    assert any(key.endswith("|master") for key in first) == (dtype == torch.bfloat16)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))
