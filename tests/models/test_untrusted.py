import json
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.data.helpers import Canary
from transformers import dynamic_module_utils

from fipo.errors import UserError
from fipo.models.loading import load
from fipo.models.make_tiny import make_model
from fipo.models.tokenizer import make_tokenizer


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    tokenizer = make_tokenizer()
    make_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def canary(tmp_path):
    """A file that exists once code of the model has run."""
    return tmp_path / "canary"


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def add_code(folder, canary):
    """A module that would leave a trace, and would work."""
    (folder / "modeling_own.py").write_text(
        f"open({str(canary)!r}, 'w').close()\n"
        "from transformers import LlamaConfig as OwnConfig, LlamaForCausalLM as OwnModel\n"
        "from transformers import PreTrainedTokenizerFast as OwnTokenizer\n"
    )


def refusal(folder):
    with pytest.raises(UserError) as error:
        load(str(folder))
    message = str(error.value)
    assert "\n" not in message
    assert message.startswith(f"model.path: {folder}")
    return message.removeprefix(f"model.path: {folder}")


OWN_MODEL = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}


def test_a_model_with_its_own_code_is_refused_and_the_code_does_not_run(folder, canary, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda _: pytest.fail("nobody is asked"))
    add_code(folder, canary)
    change(folder / "config.json", auto_map=OWN_MODEL, model_type="own")
    assert refusal(folder) == (
        ": config.json asks to run the model's own code ('modeling_own.OwnConfig'), and fipo never does "
        "(trust_remote_code is off): convert the model to an architecture that is built into transformers"
    )
    assert not canary.exists()


def test_where_transformers_has_the_architecture_the_line_says_how_to_use_that(folder, canary):
    add_code(folder, canary)
    change(folder / "config.json", auto_map=OWN_MODEL)
    model_type = json.loads((folder / "config.json").read_text())["model_type"]
    remedy = f'remove "auto_map" from a copy to use the {model_type} that is built into transformers'
    assert refusal(folder).endswith(remedy)
    assert not canary.exists()
    content = json.loads((folder / "config.json").read_text())
    del content["auto_map"]
    (folder / "config.json").write_text(json.dumps(content))
    load(str(folder))


@pytest.mark.parametrize(
    "wanted", [{"AutoTokenizer": [None, "modeling_own.OwnTokenizer"]}, ["modeling_own.OwnTokenizer", None]]
)
@pytest.mark.parametrize("tokenizer_class", ["OwnTokenizer", "PreTrainedTokenizerFast", "LlamaTokenizerFast"])
def test_a_tokenizer_with_its_own_code_is_refused_and_the_code_does_not_run(wanted, tokenizer_class, folder, canary):
    add_code(folder, canary)
    change(folder / "tokenizer_config.json", auto_map=wanted, tokenizer_class=tokenizer_class)
    assert refusal(folder).startswith(": tokenizer_config.json asks to run the model's own code (")
    assert not canary.exists()


def test_the_code_of_these_tests_leaves_a_trace(folder, canary, tmp_path, monkeypatch):
    monkeypatch.setattr(dynamic_module_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr("sys.path", [*sys.path])
    add_code(folder, canary)
    dynamic_module_utils.get_class_from_dynamic_module("modeling_own.OwnModel", str(folder))
    assert canary.exists()


def pickled(folder, canary, name="pytorch_model.bin"):
    """The weights as a pickle that leaves a trace, and the safetensors gone."""
    weights = load_file(folder / "model.safetensors")
    torch.save(weights | {"canary": Canary(canary)}, folder / name)
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "model.pt", "model.pth"])
def test_weights_in_a_pickle_alone_are_refused_unread_with_what_to_do(name, folder, canary):
    pickled(folder, canary, name)
    assert refusal(folder) == (
        f" has its weights in {name} alone; fipo reads only safetensors, because loading a pickle can run code: "
        "where you trust it, convert it once with transformers: "
        "AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW)"
    )
    assert not canary.exists()


def test_a_pickle_beside_safetensors_is_not_read(folder, canary):
    weights = load_file(folder / "model.safetensors")
    pickled(folder, canary)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    load(str(folder))
    assert not canary.exists()


def test_an_index_that_names_a_pickle_is_refused(folder, canary):
    weights = load_file(folder / "model.safetensors")
    pickled(folder, canary)
    save_file({"unused": torch.zeros(1)}, folder / "other.safetensors", metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "pytorch_model.bin")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert refusal(folder) == ": weights must be safetensors, got 'pytorch_model.bin'"
    assert not canary.exists()


@pytest.mark.parametrize("name", ["adapter_model.bin", "own.safetensors.index.json"])
def test_a_config_that_leads_to_a_pickle_is_refused(name, folder, canary):
    weights = load_file(folder / "model.safetensors")
    pickled(folder, canary, "adapter_model.bin")
    save_file({"unused": torch.zeros(1)}, folder / "other.safetensors", metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, "adapter_model.bin")}
    (folder / "own.safetensors.index.json").write_text(json.dumps(index))
    change(folder / "config.json", transformers_weights=name)
    assert refusal(folder) == ": weights must be safetensors, got 'adapter_model.bin'"
    assert not canary.exists()


def test_the_pickles_of_these_tests_leave_a_trace(folder, canary):
    pickled(folder, canary)
    torch.load(folder / "pytorch_model.bin", weights_only=False)["canary"].close()
    assert canary.exists()


@pytest.fixture
def hub(folder, tmp_path, monkeypatch):
    """The name of a hub model that was downloaded before, and its files; the network is off."""
    revision = "a" * 40
    cached = tmp_path / "hub" / "models--owner--model"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(revision)
    (cached / "snapshots").mkdir()
    folder.rename(cached / "snapshots" / revision)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return "owner/model", cached / "snapshots" / revision


def test_a_hub_model_is_held_to_the_same(hub, canary):
    name, folder = hub
    load(name)
    change(folder / "config.json", auto_map=OWN_MODEL)
    with pytest.raises(UserError, match="asks to run the model's own code"):
        load(name)
    change(folder / "config.json", auto_map={})
    pickled(folder, canary)
    with pytest.raises(UserError) as error:
        load(name)
    assert str(error.value).startswith(
        "model.path: cannot load 'owner/model': it has no safetensors, and fipo reads only safetensors, because"
    )
    assert not canary.exists()


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    assert refusal(folder) == " holds no weights: no model.safetensors"


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[]", "must be an object, got list"),
        ("{", "is not readable as JSON: "),
        ("[" * 100_000, "is not readable as JSON: "),
    ],
)
def test_a_broken_json_file_is_named(file, content, reason, folder):
    (folder / file).write_text(content)
    assert refusal(folder).startswith(f": {file} {reason}")


def test_adapters_are_refused_instead_of_being_put_on_the_model_or_on_the_one_that_they_name(folder):
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "a/b", "peft_type": "LORA"}))
    assert refusal(folder) == (" holds adapters of peft: merge them into their model (merge_and_unload) and save that")
