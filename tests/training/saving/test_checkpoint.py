import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tests.conftest import SHAPE, random_model
from tests.telemetry.test_durable import largest_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, Qwen3MoeConfig

from fipo.errors import RunStopped, UserError
from fipo.models.tokenizer import make_tokenizer
from fipo.telemetry.durable import DiskError
from fipo.telemetry.run_directory import RunDirectory
from fipo.training.policy.optimizer import MasterAdamW
from fipo.training.saving.checkpoint import Position, find_damage, restore_newest, save, set_damaged_aside
from fipo.training.saving.history import WrittenHistory

POSITION = Position(step=7, problems_taken=140, skipped_updates=1)


def trained(seed: int = 0) -> tuple[PreTrainedModel, MasterAdamW]:
    """A model and an optimizer with two steps behind them."""
    model = random_model(seed=seed)
    optimizer = MasterAdamW(model, lr=1e-3, weight_decay=0.01)
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


def saved(
    run: RunDirectory, position: Position = POSITION, keep: int = 2, history: WrittenHistory | None = None
) -> tuple[Path, PreTrainedModel]:
    model, optimizer = trained()
    return save(run, position, model, make_tokenizer(), optimizer, history or WrittenHistory(run), keep=keep), model


def test_weights_optimizer_and_position_come_back_bit_for_bit(run: RunDirectory) -> None:
    model, optimizer = trained()
    save(run, POSITION, model, make_tokenizer(), optimizer, WrittenHistory(run), keep=2)
    other, fresh = trained(seed=1)
    assert restore_newest(run, other, fresh, print) == POSITION
    for (_, a), (_, b) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(a, b)
        assert optimizer.state[a].keys() == fresh.state[b].keys() == {"step", "exp_avg", "exp_avg_sq"}
        assert all(torch.equal(optimizer.state[a][key], fresh.state[b][key]) for key in optimizer.state[a])


def test_a_mixture_of_experts_comes_back_bit_for_bit(run: RunDirectory) -> None:
    """transformers stores its experts one by one and holds them as one tensor."""
    config = Qwen3MoeConfig(**SHAPE, head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
    models = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        optimizer = MasterAdamW(model, lr=1e-3, weight_decay=0.01)
        model(input_ids=torch.tensor([[3, 4, 5, 6]])).logits.square().mean().backward()
        optimizer.step()
        models.append((model, optimizer))
    (model, optimizer), (other, fresh) = models
    save(run, POSITION, model, make_tokenizer(), optimizer, WrittenHistory(run), keep=2)
    assert restore_newest(run, other, fresh, print) == POSITION
    for (name, a), (_, b) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        assert torch.equal(a, b), name
        assert torch.equal(optimizer.state[a]["exp_avg"], fresh.state[b]["exp_avg"])


def test_transformers_loads_a_checkpoint(run: RunDirectory) -> None:
    path, model = saved(run)
    loaded = AutoModelForCausalLM.from_pretrained(path)
    ids = torch.tensor([[3, 4, 5]])
    assert torch.equal(loaded(input_ids=ids).logits, model(input_ids=ids).logits)
    assert AutoTokenizer.from_pretrained(path).encode("1+2=") == make_tokenizer().encode("1+2=")


def test_only_the_newest_checkpoints_are_kept(run: RunDirectory) -> None:
    for step in (1, 2, 3):
        saved(run, Position(step=step), keep=2)
    assert [path.name for path in run.all_checkpoints()] == ["step_000002", "step_000003"]


def test_the_best_checkpoint_by_evaluation_is_kept_besides_the_newest(run: RunDirectory) -> None:
    accuracy = {0: 0.9, 1: 0.2, 2: 0.5, 3: 0.5, 4: 0.1, 5: 0.3}  # the base is not a checkpoint; 2 was first to reach .5
    history = WrittenHistory(run)
    history.append({"step": 0, "eval/avg_at_k": accuracy[0]})
    for step in range(1, 6):
        history.append({"step": step, "eval/avg_at_k": accuracy[step]})
        saved(run, Position(step=step), keep=1, history=history)
    assert [path.name for path in run.all_checkpoints()] == ["step_000002", "step_000005"]


def flip_a_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(bytes(content))


def cut_a_byte(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


FILES = [
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
    "history.json",
    "tokenizer.json",
    "config.json",
    "manifest.json",
]


@pytest.mark.parametrize("damage", [flip_a_byte, cut_a_byte, Path.unlink])
@pytest.mark.parametrize("name", FILES)
def test_the_last_good_checkpoint_is_used_and_the_damaged_one_named(
    run: RunDirectory, name: str, damage: Callable[[Path], None]
) -> None:
    saved(run, Position(step=2))
    path, _ = saved(run, Position(step=4))
    damage(path / name)
    said: list[str] = []
    assert restore_newest(run, *trained(seed=1), said.append) == Position(step=2)
    assert len(said) == 1
    assert said[0].startswith(f"{path}: {name} is ") and said[0].endswith("; going back to the checkpoint before it")


def test_every_flipped_byte_of_a_checkpoint_is_found(run: RunDirectory) -> None:
    path, _ = saved(run)
    assert find_damage(path) is None
    for file in path.iterdir():
        content = file.read_bytes()
        for position in range(0, len(content), max(1, len(content) // 40)):
            file.write_bytes(content[:position] + bytes([content[position] ^ 32]) + content[position + 1 :])
            assert find_damage(path) is not None, (file.name, position)
        file.write_bytes(content)
    assert find_damage(path) is None


def reseal(path: Path, files: dict[str, str]) -> None:
    """A manifest that is whole in itself."""
    sha256 = hashlib.sha256(json.dumps(files).encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps({"files": files, "sha256": sha256}))


def replace_by_fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: reseal(path, {}), "manifest.json does not name state.json"),
        (lambda path: (path / "manifest.json").write_text("[" * 100_000), "manifest.json is damaged or missing"),
        (lambda path: (path / "manifest.json").write_text('{"files": 3}'), "manifest.json is damaged or missing"),
        (lambda path: replace_by_fifo(path / "state.json"), "state.json is missing or cannot be read"),
        (lambda path: replace_by_fifo(path / "manifest.json"), "manifest.json is damaged or missing"),
        (lambda path: (path / "adapter_config.json").write_text("{}"), "adapter_config.json is not in its manifest"),
    ],
)
def test_a_checkpoint_of_a_strange_shape_is_damaged(
    run: RunDirectory, damage: Callable[[Path], None], words: str
) -> None:
    path, _ = saved(run)
    damage(path)
    assert words in (find_damage(path) or "")


def test_what_no_loader_reads_may_lie_in_a_checkpoint(run: RunDirectory) -> None:
    path, _ = saved(run)
    (path / ".DS_Store").write_text("of a desktop")
    (path / "notes.txt").write_text("of a user")
    assert find_damage(path) is None


def test_a_checkpoint_under_the_name_of_another_step_is_damaged(run: RunDirectory) -> None:
    path, _ = saved(run)
    other = path.rename(run.checkpoints / "step_000009")
    assert find_damage(other) == "state.json is that of step 7"


def test_what_was_set_aside_before_makes_room_whatever_it_is(run: RunDirectory) -> None:
    saved(run, Position(step=4))
    (run.checkpoints / "damaged_step_000004").write_text("a file")
    set_damaged_aside(run, 2, print)
    assert (run.checkpoints / "damaged_step_000004").is_dir()


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_again_by_itself(run: RunDirectory) -> None:
    path, _ = saved(run)
    flip_a_byte(path / "model.safetensors")
    with pytest.raises(
        UserError, match=r"model\.safetensors is damaged .* no checkpoint is left to go on from: begin again under"
    ):
        restore_newest(run, *trained(seed=1), print)


def test_without_a_checkpoint_a_run_begins(run: RunDirectory) -> None:
    assert restore_newest(run, *trained(), print) == Position()


def test_damaged_checkpoints_are_kept_under_a_name_that_no_one_takes_for_a_checkpoint(run: RunDirectory) -> None:
    for step in (2, 4, 6):
        saved(run, Position(step=step), keep=3)
    set_damaged_aside(run, 2, print)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == [
        "damaged_step_000004",
        "damaged_step_000006",
        "step_000002",
    ]
    assert [path.name for path in run.all_checkpoints()] == ["step_000002"]


def test_a_damaged_checkpoint_before_the_newest_is_named_and_set_aside(run: RunDirectory) -> None:
    path, _ = saved(run, Position(step=2))
    saved(run, Position(step=4))
    cut_a_byte(path / "config.json")
    said: list[str] = []
    set_damaged_aside(run, 4, said.append)
    assert said == [
        f"{path}: config.json is damaged (its SHA-256 is not the manifest's); it is called damaged_step_000002 now"
    ]
    assert sorted(one.name for one in run.checkpoints.iterdir()) == ["damaged_step_000002", "step_000004"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["weights", "optimizer"])
def test_what_is_not_finite_is_not_saved(run: RunDirectory, where: str, value: float) -> None:
    saved(run, Position(step=2))
    model, optimizer = trained()
    parameter = model.model.layers[1].mlp.up_proj.weight
    tensor = parameter.data if where == "weights" else optimizer.state[parameter]["exp_avg"]
    tensor[3, 5] = value
    with pytest.raises(RunStopped, match=r"up_proj\.weight.* must be finite to be saved, got NaN or inf"):
        save(run, POSITION, model, make_tokenizer(), optimizer, WrittenHistory(run), keep=1)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step_000002"]


def test_a_checkpoint_that_does_not_fit_leaves_the_old_ones_and_nothing_half_written(run: RunDirectory) -> None:
    saved(run, Position(step=2))
    with (
        largest_file(1000),
        pytest.raises(DiskError, match=r"step_000007: cannot be written: .* \(needed .* kB, .* free"),
    ):
        saved(run, keep=1)
    assert [path.name for path in run.checkpoints.iterdir()] == ["step_000002"]
    assert find_damage(run.checkpoints / "step_000002") is None


def test_everything_in_a_checkpoint_is_safetensors_or_json_and_in_the_manifest(run: RunDirectory) -> None:
    path, _ = saved(run)
    names = {file.name for file in path.iterdir()}
    assert all(name.endswith((".safetensors", ".json")) for name in names)
    assert set(json.loads((path / "manifest.json").read_text())["files"]) == names - {"manifest.json"}
