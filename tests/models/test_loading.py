import json
import pickle
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken
from transformers import GenerationConfig

from fipo.errors import UserError
from fipo.models.corpus import ALPHABET
from fipo.models.loading import EMBEDDED_FOLDER, check_trainable, load, rows_of, stop_tokens
from fipo.models.make_tiny import make_model
from fipo.models.tokenizer import make_tokenizer


@pytest.fixture
def folder(tmp_path):
    """A small model saved in bfloat16 and training mode."""
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    make_model(tokenizer).to(torch.bfloat16).train().save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_a_model_is_loaded_from_its_folder_in_float32_without_dropout(folder):
    model, tokenizer = load(str(folder))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not any(module.training for module in model.modules())
    assert tokenizer.decode(tokenizer.encode(ALPHABET)) == ALPHABET


@pytest.mark.parametrize("path", ["embeded", "no such folder", "/no/such/folder", "./no/folder", "~/no/such"])
def test_what_is_neither_a_folder_nor_a_hub_name_is_refused_without_asking_the_hub(path):
    with pytest.raises(UserError) as error:
        load(path)
    rule = 'model.path must be "embedded", an existing folder, or a hub name OWNER/MODEL'
    assert str(error.value) == f"{rule}, got {path!r}"


def test_a_folder_without_a_model_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError) as error:
        load(str(tmp_path))
    assert str(error.value) == f"model.path: {tmp_path} holds no config.json: not a model in transformers' format"


def test_a_folder_whose_model_is_broken_is_refused_in_one_line(folder):
    (folder / "config.json").write_text('{"model_type": "no such type"}')
    with pytest.raises(UserError) as error:
        load(str(folder))
    assert str(error.value).startswith(f"model.path: cannot load {str(folder)!r}: ")
    assert "\n" not in str(error.value)


def test_a_config_with_a_wrong_type_is_refused_in_one_line_with_the_field(folder):
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | {"num_attention_heads": None}))
    with pytest.raises(UserError, match=r"cannot load .*'num_attention_heads'.* got NoneType") as error:
        load(str(folder))
    assert "\n" not in str(error.value)


def test_a_response_ends_at_the_stop_tokens_of_the_model_and_of_the_tokenizer():
    tokenizer = make_tokenizer()
    model = make_model(tokenizer)
    end, other = tokenizer.eos_token_id, tokenizer.encode("#")[0]
    for configured, expected in (
        (None, [end]),
        (end, [end]),
        (other, sorted([end, other])),
        ([other, end], sorted([end, other])),
    ):
        model.generation_config = GenerationConfig(eos_token_id=configured)
        assert stop_tokens(model, tokenizer) == expected
    model.generation_config = None
    assert stop_tokens(model, tokenizer) == [end]


def test_the_embedded_model_is_in_the_package_and_speaks_the_corpus():
    model, tokenizer = load("embedded")
    assert EMBEDDED_FOLDER.is_dir()
    assert tokenizer.get_vocab() == make_tokenizer().get_vocab()
    assert model.get_input_embeddings().weight.shape[0] == len(tokenizer)
    assert stop_tokens(model, tokenizer) == [tokenizer.eos_token_id]


def test_a_loaded_tokenizer_reads_every_text_as_the_one_that_was_saved(folder):
    _, tokenizer = load(str(folder))
    for text in (ALPHABET, "a+b", "1 2", "1\n2", "abc"):
        assert tokenizer.encode(text) == make_tokenizer().encode(text)


def test_a_folder_whose_weights_do_not_fill_the_model_is_refused(folder):
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 of its model's weights, such as model\.norm\.weight"):
        load(str(folder))


def test_truncated_weights_are_refused_in_one_line(folder):
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError) as error:
        load(str(folder))
    assert str(error.value).startswith(f"model.path: cannot load {str(folder)!r}: ")
    assert "\n" not in str(error.value)


def test_without_a_network_a_hub_name_is_refused_in_one_line_within_seconds(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match=r"^nobody/nothing: the hub cannot be reached: .*HF_HUB_OFFLINE=1"):
        load("nobody/nothing")


def test_a_snapshot_of_modelscope_is_the_model_that_the_hub_has(folder):
    """`modelscope download` leaves the same files, and some of its own beside them."""
    snapshot = folder.with_name("OWNER") / "Qwen2___5-0___5B"  # it has no dots in the names of folders
    shutil.copytree(folder, snapshot)
    own = {"framework": "pytorch", "task": "text-generation", "allow_remote": True}
    (snapshot / "configuration.json").write_text(json.dumps(own))
    (snapshot / ".msc").write_bytes(pickle.dumps([{"Path": "model.safetensors", "Revision": "master"}]))
    (snapshot / ".mv").write_text("Revision:master,CreatedAt:1727000000")
    (snapshot / ".mdl").write_bytes(pickle.dumps({"Model": "OWNER/Qwen2.5-0.5B"}))
    (snapshot / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    (snapshot / "._____temp").mkdir()
    (snapshot / "._____temp" / "model.safetensors").write_bytes(b"half of it")
    (model, tokenizer), (other, its_tokenizer) = load(str(folder)), load(str(snapshot))
    assert model.state_dict().keys() == other.state_dict().keys()
    assert all(torch.equal(tensor, other.state_dict()[name]) for name, tensor in model.state_dict().items())
    assert stop_tokens(model, tokenizer) == stop_tokens(other, its_tokenizer)
    assert tokenizer.backend_tokenizer.to_str() == its_tokenizer.backend_tokenizer.to_str()


def change(file, **values):
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


@pytest.mark.parametrize(
    "leftover",
    [
        {"attn_implementation": "flash_attention_2"},
        {"_attn_implementation": "flash_attention_2"},
        {"attn_implementation": "no such attention"},
        {"_attn_implementation": "someone/kernel"},
        {"attn_implementation": {"text_config": "someone/kernel@main"}},
        {"attn_implementation": "paged|someone/kernel"},
        {"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}},
        {"quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}},
        {"quantization_config": {"quant_method": "no such method"}},
        {"quantization_config": "gptq"},
        {"quantization_config": {"bits": 4}},
        {"return_dict": False},
        {"output_attentions": True},
        {"output_hidden_states": True},
        {"num_attention_heads": 0},
        {"hidden_act": "no such function"},
    ],
    ids=lambda leftover: "-".join(map(str, *[leftover.items()])),
)
def test_what_a_config_asks_for_and_is_not_there_is_refused_in_one_line(folder, leftover):
    change(folder / "config.json", **leftover)
    with pytest.raises(UserError) as error:
        load(str(folder))
    assert str(error.value).startswith("model.path: ")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("beside", ["weight_scale", "weight_scale_inv", "weight.absmax", "qweight"])
def test_a_quantised_model_is_noticed_by_its_tensors_where_its_config_says_nothing(folder, beside):
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, f"model.layers.0.mlp.up_proj.{beside}": torch.ones(1)}, folder / "model.safetensors")
    with pytest.raises(UserError, match=rf"is quantised in a way that its config\.json does not tell: .*{beside}$"):
        load(str(folder))


def test_a_tokenizer_that_cannot_encode_is_refused(folder):
    change(folder / "tokenizer_config.json", model_max_length="x")
    with pytest.raises(UserError, match=r"^model\.path: cannot load .*: TypeError: "):
        load(str(folder))


def test_sizes_that_are_not_those_of_the_weights_are_refused(folder):
    change(folder / "config.json", vocab_size=10)
    with pytest.raises(UserError, match=r"the sizes in its config\.json are not those of its weights"):
        load(str(folder))


def test_a_quantised_model_is_not_trained(folder):
    check_trainable(str(folder))
    change(folder / "config.json", quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128})
    with pytest.raises(UserError) as error:
        check_trainable(str(folder))
    assert str(error.value).startswith(
        f"model.path: {folder} is quantised (gptq), and such weights take no gradients: "
    )


@pytest.mark.parametrize(
    ("keys", "how"),
    [
        ({"quantization_config": {"quant_method": "awq", "bits": 4}}, "awq"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, "bitsandbytes"),
        ({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}, "fp8"),
        ({"quantization_config": {"quant_method": "hqq"}}, "hqq"),
        ({"quantization_config": {"quant_method": "mxfp4"}}, "mxfp4"),
        ({"quantization_config": {"quant_method": "compressed-tensors"}}, "compressed-tensors"),
        ({"quantization_config": {"bits": 4}}, "in an unknown way"),
        ({"compression_config": {"quant_method": "sparseml"}}, "sparseml"),
        ({"quantization": {"group_size": 64, "bits": 4}}, "in an unknown way"),
    ],
)
def test_every_way_of_quantising_is_seen(folder, keys, how):
    change(folder / "config.json", **keys)
    with pytest.raises(UserError, match=rf"is quantised \({how}\)"):
        check_trainable(str(folder))


@pytest.mark.parametrize("eos", ["<eos>", ["<eos>", 1], True, 1.5, 10**30])
def test_stop_tokens_are_numbers(eos):
    model, tokenizer = load("embedded")
    model.generation_config.eos_token_id = eos
    with pytest.raises(UserError, match="eos_token_id must be a number"):
        stop_tokens(model, tokenizer)


def with_words(folder, words, special):
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([AddedToken(word, special=special) for word in words])
    tokenizer.save_pretrained(folder)


def test_a_tokenizer_with_more_words_than_its_model_has_rows_is_refused(folder):
    rows = rows_of(load(str(folder))[0])
    with_words(folder, ["<extra>", "7-3"], special=False)
    with pytest.raises(UserError) as error:
        load(str(folder))
    assert str(error.value) == (
        f"model.path: {folder}: its tokenizer has 2 words beyond the {rows} rows of its model, such as '<extra>' "
        f"(token {rows}): the two do not belong together, or one was not resized"
    )


def test_a_special_word_that_no_text_needs_may_lie_beyond_the_rows_but_not_the_end_of_a_response(folder):
    with_words(folder, ["<image>"], special=True)
    load(str(folder))
    change(folder / "tokenizer_config.json", eos_token="<image>")
    with pytest.raises(UserError, match="words beyond the"):
        load(str(folder))


def test_a_run_that_is_not_there_is_said_before_any_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fipo.models.loading.commit_of", lambda *_: pytest.fail("asked the hub"))
    with pytest.raises(UserError, match=r"^model\.path: there is no such run: runs/nope$"):
        load("runs/nope")
    (tmp_path / "mine" / "quickstart").mkdir(parents=True)
    (tmp_path / "mine" / "quickstart" / "config.toml").touch()
    with pytest.raises(UserError, match=r"no such run: mine/quikstart \(did you mean mine/quickstart\?\)$"):
        load("mine/quikstart")
