import shutil

import pytest
import torch
from transformers import AutoModelForCausalLM

from fipo.cli import main
from fipo.errors import UserError
from fipo.models.loading import load
from fipo.publish.export import export
from fipo.telemetry.run_directory import RunDirectory


def weights(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict()


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_the_folder_loads_by_itself_and_holds_the_newest_checkpoint_without_the_optimizer(run, tmp_path, capsys):
    folder = tmp_path / "model"
    assert main(["export", str(run.path), str(folder)]) == 0
    assert capsys.readouterr().out == f"model: {folder} (all weights)\n"
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "README.md", "recipe.toml", "metrics.jsonl"} <= names
    assert not names & {"optimizer.safetensors", "state.json", "manifest.json", "adapter"}
    assert same(weights(folder), weights(run.newest_checkpoint()))
    load(str(folder))


def test_another_step_can_be_asked_for(run, tmp_path):
    first, newest = run.all_checkpoints()
    export(run, tmp_path / "model", step=1)
    assert same(weights(tmp_path / "model"), weights(first)) and not same(weights(first), weights(newest))
    with pytest.raises(UserError, match=r"--step must be one of 1, 2, the checkpoints of .*, got 7"):
        export(run, tmp_path / "other", step=7)


def test_adapters_are_merged(adapted, tmp_path, capsys):
    assert main(["export", str(adapted.path), str(tmp_path / "model")]) == 0
    assert capsys.readouterr().out.endswith("(adapters of rank 2, merged into the base)\n")
    base = load("embedded")[0].state_dict()
    merged = weights(tmp_path / "model")
    assert merged.keys() == base.keys()
    assert any(not torch.equal(merged[name], base[name]) for name in base)
    assert "adapters of rank 2, merged into the base)" in (tmp_path / "model" / "README.md").read_text()


def test_a_folder_with_something_in_it_is_not_touched(run, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="must be a folder that is new or empty"):
        export(run, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_damaged_checkpoint_is_not_exported(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    damaged = RunDirectory(tmp_path / "run")
    (damaged.newest_checkpoint() / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        export(damaged, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_what_is_no_run_is_named(tmp_path, capsys):
    assert main(["export", str(tmp_path), str(tmp_path / "model")]) == 2
    assert "not a run directory" in capsys.readouterr().err
