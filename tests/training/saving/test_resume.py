"""Whole runs (see conftest.py) that are resumed with something else than they began with."""

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import torch
from safetensors.torch import load_file, save_file
from tests.faults.small_run import digests, make_small_run
from tests.training.helpers import keep, restored, run_recipe

from fipo.errors import UserError
from fipo.telemetry.run_directory import RunDirectory
from fipo.training.policy import setup as policy_setup

GRADER = "from fipo.grading.answers.number import grade_number as grade\n"
LOSS = "def loss(tokens, cfg):\n    return -tokens.ratio * tokens.advantages\n"


def edit_json(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def other_tokenizer(folder: Path) -> None:
    """Two words change their places."""

    def swap(content: dict[str, Any]) -> None:
        vocabulary = content["model"]["vocab"]
        vocabulary["x"], vocabulary["?"] = vocabulary["?"], vocabulary["x"]

    edit_json(folder / "model" / "tokenizer.json", swap)


def other_stop_tokens(folder: Path) -> None:
    edit_json(folder / "model" / "generation_config.json", lambda content: content.update(eos_token_id=[1, 9]))


def other_config(folder: Path) -> None:
    edit_json(folder / "model" / "config.json", lambda content: content.update(rms_norm_eps=1e-3))


def other_weights(folder: Path) -> None:
    weights = load_file(folder / "model" / "model.safetensors")
    weights["model.norm.weight"][0] += 0.01
    save_file(weights, folder / "model" / "model.safetensors", metadata={"format": "pt"})


def other_grader(folder: Path) -> None:
    (folder / "own_grader.py").write_text(GRADER + "# stricter\n")


OWN = {"data__grader": "own_grader:grade"}


@pytest.fixture(scope="module")
def _begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    used = tmp_path_factory.mktemp("begun") / "used"
    used.mkdir()
    make_small_run(used)
    (used / "own_grader.py").write_text(GRADER)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(used)
        run_recipe(used, "run", run__steps="2", **OWN)
    return keep(used)


@pytest.fixture
def begun(_begun: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a run of two steps that has a grader of its own, as if made anew; the working directory."""
    folder = restored(_begun)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_tokenizer, "the tokenizer of model.path"),
        (other_stop_tokens, "the stop tokens"),
        (other_config, "the config of model.path"),
        (other_weights, "the weights of model.path"),
        (other_grader, "the source of data.grader"),
    ],
)
def test_what_decides_samples_is_named_when_it_changed(begun: Path, change: Callable[[Path], None], named: str) -> None:
    change(begun)
    run = RunDirectory(begun / "runs" / "run")
    before = digests(run)
    with pytest.raises(UserError, match=rf"run: --resume needs what the run began with; {named} changed$"):
        run_recipe(begun, "run", resume=True, **OWN)
    assert digests(run) == before


def test_a_run_that_was_begun_without_a_fingerprint_goes_on(begun: Path) -> None:
    run = RunDirectory(begun / "runs" / "run")
    config = tomllib.loads(run.config.read_text())
    assert set(config["resolved"].pop("fingerprint")) == {"tokenizer", "stop_tokens", "config", "weights", "grader"}
    run.config.write_text(tomli_w.dumps(config))
    other_grader(begun)
    assert len(run_recipe(begun, "run", resume=True, **OWN).read_metrics()) == 5


def test_another_library_may_make_another_fingerprint_of_the_same(
    begun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunDirectory(begun / "runs" / "run")
    config = tomllib.loads(run.config.read_text())
    config["versions"]["tokenizers"] = "0.1"
    run.config.write_text(tomli_w.dumps(config))
    other_tokenizer(begun)
    run_recipe(begun, "run", resume=True, **OWN)
    said = " ".join(capsys.readouterr().out.split())
    assert "note: tokenizers was 0.1 when the run began and is " in said
    assert "note: the tokenizer of model.path changed, or the versions make another of the same" in said


def test_another_source_of_the_surrogate_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "own_loss.py").write_text(LOSS)
    own = {"objective__preset": "dapo", "objective__surrogate": "own_loss:loss"}
    run = run_recipe(folder, "run", run__steps="1", **own)
    assert "surrogate" in run.read_config()["resolved"]["fingerprint"]
    (folder / "own_loss.py").write_text(LOSS + "# other\n")
    with pytest.raises(UserError, match=r"the source of objective\.surrogate changed"):
        run_recipe(folder, "run", resume=True, **own)


@pytest.mark.parametrize("weights", ["the same", "others"])
def test_another_commit_of_a_hub_model_is_named(
    begun: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    weights: str,
) -> None:
    load = policy_setup.load_as

    def from_the_hub(*arguments, **named):
        model, tokenizer = load(*arguments, **named)
        model.config._commit_hash = "2222"
        return model, tokenizer

    monkeypatch.setattr(policy_setup, "load_as", from_the_hub)
    run = RunDirectory(begun / "runs" / "run")
    config = run.read_config()
    config["resolved"]["fingerprint"]["revision"] = "1111"
    run.write_config(config)
    if weights == "others":
        other_weights(begun)
        with pytest.raises(UserError, match=r"weights of model\.path changed \(commit 1111 on the hub, now 2222\)"):
            run_recipe(begun, "run", resume=True, **OWN)
    else:
        run_recipe(begun, "run", resume=True, **OWN)
        said = " ".join(capsys.readouterr().out.split())
        assert "note: model.path is the same model in another commit (commit 1111 on the hub, now 2222)" in said


def test_another_number_of_threads_is_mentioned(begun: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        run_recipe(begun, "run", resume=True, **OWN)
    finally:
        torch.set_num_threads(threads)
    said = " ".join(capsys.readouterr().out.split())
    assert f"note: threads was {threads} when the run began and is {threads + 1}: results may differ in" in said


def test_what_changed_before_anything_was_sampled_is_no_matter(begun: Path) -> None:
    run = RunDirectory(begun / "runs" / "run")
    for path in (run.checkpoints, run.rollouts):
        for inside in sorted(path.rglob("*"), reverse=True):
            inside.rmdir() if inside.is_dir() else inside.unlink()
    run.metrics.unlink()
    other_grader(begun)
    assert len(run_recipe(begun, "run", resume=True, **OWN).read_metrics()) == 5


@pytest.mark.parametrize("table", ["data", "fingerprint"])
def test_a_recorded_table_of_another_shape_is_damaged(begun: Path, table: str) -> None:
    run = RunDirectory(begun / "runs" / "run")
    config = run.read_config()
    config["resolved"][table] = 3
    run.write_config(config)
    with pytest.raises(UserError, match=rf"config\.toml: damaged: resolved\.{table} must be a table, got 3"):
        run_recipe(begun, "run", resume=True, **OWN)
