import re
import sys
from pathlib import Path

import pytest
import torch
from tests.conftest import random_model
from transformers import AutoModelForCausalLM

from fipo.doctor.recipe.fit import CHANGES, Fit
from fipo.doctor.recipe.machine import GIB, Machine
from fipo.doctor.recipe.memory import MemoryEstimate, checkpoint_bytes, estimate, tokens_at_once
from fipo.doctor.recipe.outline import kept_per_token, outline_of
from fipo.errors import UserError
from fipo.extras import install_hint
from fipo.models.loading import dtype_of, load
from fipo.training.passes.packed_attention import forward
from fipo.training.policy.table import LoraTable
from fipo.training.recipe import Recipe, load_recipe
from fipo.training.setup import MasterAdamW

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
FLOAT32, BFLOAT16 = torch.float32, torch.bfloat16


@pytest.fixture
def recipe(repository: Path):
    def load_it(**overrides: str) -> Recipe:
        written = {"update.mini_batches": "4"} | {key.replace("__", "."): value for key, value in overrides.items()}
        return load_recipe(repository / "recipe" / "quickstart.toml", written)

    return load_it


def estimated(recipe: Recipe, device: torch.device) -> MemoryEstimate:
    outline = outline_of(recipe.model.path, dtype_of(recipe.model.dtype, device), recipe.model.lora)
    return estimate(recipe, outline, device, eval_problems=256, process=0)


def test_an_outline_has_the_sizes_of_the_model_that_is_loaded():
    model, _ = load("embedded")
    outline = outline_of("embedded", FLOAT32, None)
    parameters = list(model.parameters())
    assert outline.architecture == type(model).__name__
    assert outline.parameters == outline.trainable == sum(p.numel() for p in parameters)
    assert outline.weight_bytes == 4 * outline.parameters
    assert outline.half_precision == 0
    assert outline.positions == model.config.max_position_embeddings
    assert outline.cached_per_token == 2 * 4 * 2 * 32  # keys and values, layers, heads, size of a head


def test_what_autograd_keeps_is_what_it_keeps_of_a_real_model(any_model):
    """Flash attention is counted, and the CPU's attention keeps a little more."""
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    own = {tensor.untyped_storage()._cdata for tensor in [*any_model.parameters(), *any_model.buffers()]}
    tokens = 128
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = forward(any_model.get_decoder(), any_model, torch.zeros(1, tokens, dtype=torch.long), None)
    real = sum(storage.nbytes() for address, storage in kept.items() if address not in own) / tokens
    assert out is not None
    with torch.device("meta"):
        outline = AutoModelForCausalLM.from_config(any_model.config).eval()
    assert kept_per_token(outline) == pytest.approx(real, rel=0.1)


def test_a_model_that_cannot_be_run_without_weights_is_estimated_by_rule_of_thumb(monkeypatch):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(random_model().config).eval()
    measured = kept_per_token(model)
    monkeypatch.setattr(type(model.get_decoder()), "forward", lambda *_, **__: 1 / 0)
    assert kept_per_token(model) == pytest.approx(measured, rel=0.35)


def test_adapters_alone_have_gradients_and_a_state(recipe):
    pytest.importorskip("peft")
    outline = outline_of("embedded", BFLOAT16, LoraTable(rank=4))
    whole = outline_of("embedded", BFLOAT16, None)
    assert outline.parameters == whole.parameters + outline.trainable
    assert 0 < outline.trainable < 0.1 * whole.trainable
    assert outline.half_precision == outline.trainable
    parts = estimated(recipe(model__lora="{ rank = 4 }"), CUDA)
    assert parts.stays["adamw state"] == 8 * outline.trainable
    assert parts.update["gradients"] == 4 * outline.trainable


def test_a_base_in_4_bits_takes_a_quarter_of_half_precision_and_its_checkpoint_none_less(recipe):
    pytest.importorskip("peft")
    pytest.importorskip("bitsandbytes")
    lora = LoraTable(rank=4)
    half, small = (
        outline_of("embedded", BFLOAT16, lora.model_copy(update={"base": base})) for base in ("model", "4bit")
    )
    assert small.weight_bytes < 0.4 * half.weight_bytes  # norms, embedding and head stay
    for one in ("parameters", "trainable", "half_precision", "saved_bytes"):
        assert getattr(small, one) == getattr(half, one)
    assert small.kept_per_token == pytest.approx(half.kept_per_token, rel=0.01)
    parts = estimated(recipe(model__dtype="bfloat16", model__lora='{ rank = 4, base = "4bit" }'), CUDA)
    assert parts.stays["weights"] == small.weight_bytes
    assert parts.sampling["dequantised weights"] == parts.update["dequantised weights"] > 0


def test_weights_masters_gradients_and_state_are_those_of_the_real_optimizer(recipe):
    for dtype in (FLOAT32, BFLOAT16):
        model, _ = load("embedded", dtype=dtype)
        optimizer = MasterAdamW(model, lr=1e-3, weight_decay=0.1)
        model(input_ids=torch.tensor([[2, 3, 4]])).logits.float().sum().backward()
        gradients = sum(m.grad.numel() * m.grad.element_size() for m in optimizer.masters.values())
        optimizer.step()
        tensors = optimizer.state_tensors().items()
        sizes = {
            kind: sum(t.numel() * t.element_size() for key, t in tensors if key.split("|")[1] in fields)
            for kind, fields in (("state", ("exp_avg", "exp_avg_sq")), ("masters", ("master",)))
        }
        parts = estimated(recipe(model__dtype=str(dtype).removeprefix("torch.")), CPU)
        assert parts.stays["weights"] == sum(p.numel() * p.element_size() for p in model.parameters())
        assert parts.stays.get("float32 masters", 0) == sizes["masters"]
        assert parts.stays["adamw state"] == sizes["state"]
        assert parts.update["gradients"] == gradients


def test_a_reference_is_a_second_copy_unless_adapters_can_be_switched_off(recipe):
    pytest.importorskip("peft")
    penalty = {"objective__kl_coef": "0.1"}
    with_copy = estimated(recipe(**penalty), CUDA).stays
    assert with_copy["reference model"] == with_copy["weights"]
    assert "reference model" not in estimated(recipe(), CUDA).stays
    assert "reference model" not in estimated(recipe(model__lora="{}", **penalty), CUDA).stays


SMALLER = [
    ({"update__gradient_checkpointing": "true"}, "update"),
    ({"update__tokens_per_micro_batch": "1024"}, "update"),
    ({"update__optimizer": "adamw_8bit"}, "stays"),
    ({"rollout__decode_batch": "32"}, "stays"),
    ({"rollout__max_response_tokens": "64"}, "stays"),
]


@pytest.mark.parametrize(("changes", "where"), SMALLER, ids=[str(changes) for changes, _ in SMALLER])
def test_what_is_said_to_need_less_memory_does(changes, where, recipe):
    before, after = (sum(getattr(estimated(recipe(**c), CUDA), where).values()) for c in ({}, changes))
    assert after < before


def test_a_micro_batch_is_never_smaller_than_a_sequence_nor_larger_than_a_mini_batch(recipe):
    assert tokens_at_once(recipe()) == 2048
    assert tokens_at_once(recipe(update__tokens_per_micro_batch="10")) == 16 + 160
    assert tokens_at_once(recipe(update__tokens_per_micro_batch="1000000")) == 16 // 4 * 8 * (16 + 160)


def test_a_float32_output_layer_takes_a_copy_of_itself_on_a_cpu_and_nothing_on_cuda(recipe):
    outline = outline_of("embedded", BFLOAT16, None)
    half = {"model__dtype": "float16"}
    for phase in ("sampling", "update"):
        wide, narrow = (
            getattr(estimated(recipe(**half, model__head_dtype=head), CPU), phase) for head in ("auto", "model")
        )
        assert wide.pop("output layer in float32") == 4 * outline.vocabulary * outline.hidden
        assert wide == narrow
        assert "output layer in float32" not in getattr(estimated(recipe(**half), CUDA), phase)
        assert "output layer in float32" not in getattr(estimated(recipe(), CPU), phase)


@pytest.mark.parametrize(
    "without", [{"model__dtype": "float32"}, {"telemetry__noise_every": "0"}, {"update__mini_batches": "1"}]
)
def test_the_measurement_of_rounding_is_counted_where_it_is_made(recipe, without):
    half = {"model__dtype": "bfloat16"}
    assert "2,048 tokens in float32" in estimated(recipe(**half), CUDA).rounding
    assert set(estimated(recipe(**(half | without)), CUDA).rounding) == {"gradients"}


def test_recorded_steps_keep_what_they_compute_with_on_cuda_alone(recipe):
    """Also while weights are updated: a CUDA graph has places of its own."""
    on_cuda, on_cpu = (estimated(recipe(model__dtype="float32"), device) for device in (CUDA, CPU))
    assert on_cpu.sampling["choosing tokens"] == on_cuda.stays["recorded decode steps"]
    assert "choosing tokens" not in on_cuda.sampling


def test_prompts_that_wait_are_counted_up_to_what_is_read_ahead(recipe):
    few, many, long = (
        estimated(recipe(rollout__decode_batch="8", rollout__generation_batch=n, rollout__max_prompt_tokens=m), CUDA)
        for n, m in (("300", "16"), ("3000", "16"), ("3000", "64"))
    )
    assert few.sampling["prompts that were read"] < many.sampling["prompts that were read"]
    assert long.sampling["prompts that were read"] < 2 * many.sampling["prompts that were read"]


def test_the_output_layer_has_two_gradients_in_half_precision(recipe):
    outline = outline_of("embedded", BFLOAT16, None)
    parts = estimated(recipe(model__dtype="bfloat16"), CUDA).update
    assert parts["gradients of the output layer"] == 2 * 2 * outline.vocabulary * outline.hidden
    assert "gradients of the output layer" not in estimated(recipe(model__dtype="float32"), CUDA).update


def test_the_peak_is_what_stays_and_the_largest_phase():
    found = MemoryEstimate(stays={"a": 5.0, "b": 1.0}, sampling={"c": 3.0}, update={"d": 2.0, "e": 2.0}, rounding={})
    assert found.phase == ("the update", {"d": 2.0, "e": 2.0})
    assert found.peak == 10


def test_a_checkpoint_holds_weights_masters_and_state(recipe):
    half = outline_of("embedded", BFLOAT16, None)
    assert checkpoint_bytes(recipe(), half) == (2 + 4 + 8) * half.parameters


def fit(recipe: Recipe, gib: float, device: torch.device = CUDA) -> Fit:
    outline = outline_of(recipe.model.path, dtype_of(recipe.model.dtype, device), recipe.model.lora)
    machine = Machine(device=device, memory=int(gib * GIB), source="a test")
    return Fit(recipe=recipe, outline=outline, machine=machine, eval_problems=256, process=0)


def test_a_run_that_fits_gives_no_finding(recipe):
    assert fit(recipe(), 1.0).findings() == []


def test_one_that_fits_barely_is_a_warning_and_one_that_does_not_is_a_stop(recipe):
    peak = fit(recipe(), 1.0).estimate.peak / GIB
    tight, short = (fit(recipe(), share * peak).findings() for share in (1.1, 0.9))
    assert {finding.level for finding in tight} == {"warning"}
    assert re.match(r"memory is tight: about (0\.\d GiB|\d+ MiB) are needed", tight[0].text)
    assert {finding.level for finding in short} == {"problem"}
    assert re.match(r"memory does not suffice: about (0\.\d GiB|\d+ MiB) are needed", short[0].text)


def test_each_advice_says_how_much_it_frees_and_whether_that_is_enough(recipe):
    large = recipe(rollout__max_response_tokens="400", update__tokens_per_micro_batch="16384")
    found = fit(large, 0.75 * fit(large, 1.0).estimate.peak / GIB)
    advice = [finding.text for finding in found.findings()[1:]]
    assert any(re.match(r"rollout\.decode_batch = 64 would free \d+ MiB: 0\.\d GiB, ", text) for text in advice)
    assert any(text.startswith("update.gradient_checkpointing = true would free ") for text in advice)
    assert any(text.startswith("all of these together would free ") for text in advice)
    counted = [text for text in advice if " would help; to see how much: " not in text]  # what is not installed
    assert all(text.endswith(("which fits", "which does not fit yet")) for text in counted)
    assert any(text.endswith("which fits") for text in advice)


def test_on_a_tiny_machine_the_amounts_still_say_something(recipe):
    tiny = fit(recipe(rollout__decode_batch="8", rollout__max_response_tokens="8"), 0.001).findings()
    assert " there are 1 MiB (a test)" in tiny[0].text
    assert len(tiny) > 2
    assert not any(" 0.0 GiB" in finding.text or " 0 MiB" in finding.text for finding in tiny)


def test_when_nothing_suffices_the_advice_ends_with_a_smaller_model(recipe):
    pytest.importorskip("peft")
    pytest.importorskip("bitsandbytes")
    assert "a smaller one" in fit(recipe(), 1e-4).findings()[-1].text


def test_no_change_is_offered_twice(recipe):
    machine = Machine(device=CUDA, memory=GIB, source="a test")
    for change in CHANGES:
        start = recipe(objective__kl_coef="0.1", model__dtype="float32", update__tokens_per_micro_batch="700")
        for _ in range(20):
            changed = change(start, machine)
            if changed is None:
                break
            assert changed[1] != start
            start = changed[1]
        else:
            raise AssertionError(f"{change.__name__} never ends")


def test_a_model_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="an existing folder"):
        outline_of("/no/such/model", FLOAT32, None)
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(UserError, match="must be a causal language model"):
        outline_of(str(tmp_path), FLOAT32, None)
    (tmp_path / "config.json").write_text('{"model_type": "no such type"}')
    with pytest.raises(UserError, match="cannot read the config"):
        outline_of(str(tmp_path), FLOAT32, None)


def test_a_config_without_weights_is_enough(tmp_path):
    random_model().config.save_pretrained(tmp_path)
    assert outline_of(str(tmp_path), BFLOAT16, None).parameters == sum(p.numel() for p in random_model().parameters())


def test_without_peft_adapters_are_advised_all_the_same(recipe, monkeypatch):
    pytest.importorskip("bitsandbytes")
    monkeypatch.setitem(sys.modules, "peft", None)
    outline_of.cache_clear()
    texts = [finding.text for finding in fit(recipe(), 0.1).findings()]
    said = [text for text in texts if text.startswith("model.lora = ")]
    tables = ("{ rank = 32 }", '{ rank = 32, base = "4bit" }')
    assert said == [f"model.lora = {table} would help; to see how much: {install_hint('lora')}" for table in tables]
    assert not any("what remains is the model" in text for text in texts)
