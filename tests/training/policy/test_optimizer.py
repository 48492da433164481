import copy
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import SHAPE, random_model
from tests.faults.small_run import digests
from tests.training.helpers import run_recipe
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2Config

from fipo.errors import UserError
from fipo.extras import install_hint
from fipo.training.policy.optimizer import Kind, MasterAdamW

IDS = torch.tensor([[3, 4, 5, 6, 7, 8]])


def backward(model: PreTrainedModel, scale: float = 1.0) -> None:
    ids = IDS.to(model.device)
    (model(input_ids=ids, labels=ids).loss * scale).backward()


def wide_model(seed: int = 0) -> PreTrainedModel:
    """With tensors for which bitsandbytes takes 8 bits (4096 numbers) and pages (100,000)."""
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(Qwen2Config(**(SHAPE | {"hidden_size": 64, "intermediate_size": 2048})))


def test_in_float32_it_is_adamw_bit_for_bit() -> None:
    results = []
    for make in (
        lambda model: MasterAdamW(model, lr=1e-2, weight_decay=0.1),
        lambda model: torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1, fused=True),
    ):
        model = random_model()
        optimizer = make(model)
        for _ in range(3):
            optimizer.zero_grad()
            backward(model)
            optimizer.step()
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*results)


def test_its_memory_is_taken_before_the_first_step() -> None:
    model = random_model()
    optimizer = MasterAdamW(model, lr=1e-3, weight_decay=0.1)
    before = {name: tensor.data_ptr() for name, tensor in optimizer.state_tensors().items()}
    assert len(before) == 3 * len(optimizer.masters)
    backward(model)
    optimizer.step()
    assert {name: tensor.data_ptr() for name, tensor in optimizer.state_tensors().items()} == before


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


ON_CPU: list[Kind] = ["adamw", "adamw_8bit"]
ON_CUDA: list[Kind] = [*ON_CPU, "paged_adamw_8bit"]


@pytest.mark.parametrize("kind", ON_CPU)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_state_is_restored_bit_for_bit(dtype: torch.dtype, kind: Kind, tmp_path: Path) -> None:
    check_restored(dtype, kind, tmp_path / "state.safetensors", torch.device("cpu"))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ON_CUDA)
def test_on_cuda_its_state_is_restored_bit_for_bit(kind: Kind, tmp_path: Path) -> None:
    check_restored(torch.bfloat16, kind, tmp_path / "state.safetensors", torch.device("cuda"))


def check_restored(dtype: torch.dtype, kind: Kind, file: Path, device: torch.device) -> None:
    if kind != "adamw":
        pytest.importorskip("bitsandbytes")
    models = [wide_model(seed).to(dtype).to(device) for seed in range(2)]
    optimizers = [MasterAdamW(model, lr=1e-2, weight_decay=0.1, kind=kind) for model in models]
    for _ in range(2):
        optimizers[0].zero_grad()
        backward(models[0])
        optimizers[0].step()
    models[1].load_state_dict(models[0].state_dict())
    save_file(optimizers[0].state_tensors(), file)
    optimizers[1].load_state_tensors(load_file(file))
    for model, optimizer in zip(models, optimizers, strict=True):
        optimizer.zero_grad()
        backward(model, scale=0.3)
        optimizer.step()
    first, second = (optimizer.state_tensors() for optimizer in optimizers)
    assert any(key.endswith("|master") for key in first) == (dtype == torch.bfloat16)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))


def test_in_8_bits_the_state_takes_a_quarter_and_the_steps_are_those_of_adamw_but_for_rounding() -> None:
    pytest.importorskip("bitsandbytes")
    models = [wide_model() for _ in range(2)]
    start = copy.deepcopy(models[0])
    name = "model.layers.0.mlp.up_proj.weight"
    sizes = []
    for model, kind in zip(models, ON_CPU, strict=True):
        optimizer = MasterAdamW(model, lr=1e-3, weight_decay=0.1, kind=kind)
        for _ in range(10):
            optimizer.zero_grad()
            backward(model)
            optimizer.step()
        tensors = {key: tensor for key, tensor in optimizer.state_tensors().items() if key.startswith(f"{name}|")}
        sizes.append(sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()))
    assert sizes[1] < 0.27 * sizes[0]
    moves = [model.get_parameter(name).detach() - start.get_parameter(name).detach() for model in models]
    assert float((moves[1] - moves[0]).norm() / moves[0].norm()) < 0.1


def test_a_paged_state_without_cuda_is_refused_in_one_line() -> None:
    with pytest.raises(UserError) as error:
        MasterAdamW(random_model(), lr=1e-3, weight_decay=0.0, kind="paged_adamw_8bit")
    assert str(error.value) == (
        "update.optimizer: 'paged_adamw_8bit' moves its state between the memories of a CUDA device and the host: "
        'run.device must be "cuda", got \'cpu\' ("adamw_8bit" runs there)'
    )


def test_a_missing_package_is_one_line_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", None)
    with pytest.raises(UserError) as error:
        MasterAdamW(random_model(), lr=1e-3, weight_decay=0.0, kind="adamw_8bit")
    assert str(error.value) == f"update.optimizer: 'adamw_8bit' needs the extra: {install_hint('bitsandbytes')}"


@pytest.mark.gpu
def test_on_cuda_a_paged_state_makes_the_steps_of_one_that_is_not() -> None:
    pytest.importorskip("bitsandbytes")
    kinds: list[Kind] = ["adamw_8bit", "paged_adamw_8bit"]
    weights = []
    for kind in kinds:
        model = wide_model().cuda().bfloat16()
        optimizer = MasterAdamW(model, lr=1e-3, weight_decay=0.1, kind=kind)
        for _ in range(5):
            optimizer.zero_grad()
            backward(model)
            optimizer.step()
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*weights)


def test_a_run_in_8_bits_that_is_resumed_equals_the_uninterrupted_one_bit_for_bit(folder: Path) -> None:
    pytest.importorskip("bitsandbytes")
    wide_model().save_pretrained(folder / "model")
    settings = {"update__optimizer": "adamw_8bit", "checkpoint__every": "1", "eval__every": "1"}
    whole = run_recipe(folder, "whole", run__steps="2", **settings)
    run_recipe(folder, "parts", run__steps="1", **settings)
    assert digests(run_recipe(folder, "parts", resume=True, run__steps="2", **settings)) == digests(whole)
    state = load_file(whole.all_checkpoints()[-1] / "optimizer.safetensors")
    assert state["model.layers.0.mlp.up_proj.weight|state1"].dtype == torch.uint8
