import json
from pathlib import Path

import pytest
import torch
from tests.conftest import random_model
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from fipo.errors import UserError
from fipo.models.tokenizer import make_tokenizer
from fipo.telemetry.run_directory import RunDirectory
from fipo.training.checkpoint import Position, restore, save

POSITION = Position(step=7, problems_taken=140, skipped_updates=1)


def trained(seed: int = 0) -> tuple[PreTrainedModel, torch.optim.AdamW]:
    """A model and an optimizer with two steps behind them."""
    model = random_model(seed=seed)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for step in range(2):
        model(input_ids=torch.tensor([[3, 4, 5, 6 + step]])).logits.square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "run")
    run.create({})
    return run


def saved(run: RunDirectory, position: Position = POSITION, keep: int = 2) -> tuple[Path, PreTrainedModel]:
    model, optimizer = trained()
    return save(run, position, model, make_tokenizer(), optimizer, keep=keep), model


def test_weights_optimizer_and_position_come_back_bit_for_bit(run: RunDirectory) -> None:
    model, optimizer = trained()
    path = save(run, POSITION, model, make_tokenizer(), optimizer, keep=2)
    other, fresh = trained(seed=1)
    assert restore(path, other, fresh) == POSITION
    for (_, a), (_, b) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(a, b)
        assert optimizer.state[a].keys() == fresh.state[b].keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(optimizer.state[a][key], fresh.state[b][key]) for key in optimizer.state[a])


def test_transformers_loads_a_checkpoint(run: RunDirectory) -> None:
    path, model = saved(run)
    loaded = AutoModelForCausalLM.from_pretrained(path)
    ids = torch.tensor([[3, 4, 5]])
    assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)
    assert AutoTokenizer.from_pretrained(path).encode("1+2=") == make_tokenizer().encode("1+2=")


def test_only_the_newest_checkpoints_are_kept(run: RunDirectory) -> None:
    for step in (1, 2, 3):
        saved(run, Position(step=step, problems_taken=0, skipped_updates=0), keep=2)
    assert [path.name for path in run.all_checkpoints()] == ["step_000002", "step_000003"]


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "tokenizer.json"])
def test_a_flipped_byte_is_named(run: RunDirectory, name: str) -> None:
    path, _ = saved(run)
    content = bytearray((path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (path / name).write_bytes(bytes(content))
    with pytest.raises(UserError, match=f"{name} is damaged or missing"):
        restore(path, *trained(seed=1))


def test_a_missing_file_is_named(run: RunDirectory) -> None:
    path, _ = saved(run)
    (path / "optimizer.safetensors").unlink()
    with pytest.raises(UserError, match=r"optimizer\.safetensors is damaged or missing"):
        restore(path, *trained(seed=1))


def test_everything_in_a_checkpoint_is_safetensors_or_json_and_in_the_manifest(run: RunDirectory) -> None:
    path, _ = saved(run)
    names = {file.name for file in path.iterdir()}
    assert all(name.endswith((".safetensors", ".json")) for name in names)
    assert set(json.loads((path / "manifest.json").read_text())) == names - {"manifest.json"}
