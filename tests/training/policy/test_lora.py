import copy
import functools
import json
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.conftest import random_model
from tests.faults.small_run import digests
from tests.training.helpers import run_recipe
from tests.training.passes.test_recompute import saved_elements
from tests.training.test_update import gradients, mini_batches_of, run_update
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel, PreTrainedModel
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from fipo.errors import UserError
from fipo.extras import install_hint
from fipo.models.four_bit import quantise
from fipo.objective import ALGORITHMS
from fipo.rollout.engine.select import make_sampler
from fipo.rollout.engine.slot_engine import SlotEngine
from fipo.rollout.sampler import SamplingParams
from fipo.training.passes.layout import layout_of
from fipo.training.passes.logprobs import has_plain_head
from fipo.training.passes.recompute import check_recomputing, recomputing
from fipo.training.policy.lora import adapt, is_adapted, merged_weights, without_adapters
from fipo.training.policy.mfu import compute_of
from fipo.training.policy.optimizer import MasterAdamW
from fipo.training.policy.table import LoraTable

pytest.importorskip("peft")
IDS = torch.tensor([[3, 4, 5, 6, 7, 8]])
PROMPTS = [[5, 6, 7, 4, 3], [2, 4], [9, 3, 3]]
TABLE = LoraTable(rank=4, alpha=8.0)
RECIPE = {"model__lora__rank": "4", "model__lora__alpha": "8.0", "update__learning_rate": "1e-2"}


def adapted(model: PreTrainedModel, table: LoraTable = TABLE, *, moved: float = 0.1) -> PreTrainedModel:
    """The model with adapters; `moved` is the size of their B, which begins at 0."""
    torch.manual_seed(7)
    adapt(model, table)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=moved)
    return model


def with_norms_in_double(model: PreTrainedModel) -> PreTrainedModel:
    """transformers' norms go through float32, where a difference in the last bit of a double can become 1e-8."""
    for module in model.modules():
        if isinstance(module, Qwen2RMSNorm):
            module.forward = functools.partial(_norm, module)
    return model


def _norm(module: Qwen2RMSNorm, x: torch.Tensor) -> torch.Tensor:
    return module.weight * x * torch.rsqrt(x.square().mean(-1, keepdim=True) + module.variance_epsilon)


@torch.no_grad()
def logits(model: PreTrainedModel) -> torch.Tensor:
    return model(input_ids=IDS, use_cache=False).logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_at_first_it_is_the_base_model_bit_for_bit(any_model: PreTrainedModel, dtype: torch.dtype) -> None:
    base = any_model.to(dtype)
    model = copy.deepcopy(base)
    adapt(model, TABLE)
    assert is_adapted(model) and not is_adapted(base)
    assert torch.equal(logits(model), logits(base))
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert not any(module.training for module in model.modules())


def test_only_the_adapters_are_trained(any_model: PreTrainedModel) -> None:
    model = adapted(any_model)
    optimizer = MasterAdamW(model, lr=1e-2, weight_decay=0.1)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    [batch] = mini_batches_of(model)
    assert float(run_update(model, batch, ALGORITHMS["dapo"]).grad_norm) > 0
    optimizer.step()
    after = dict(model.named_parameters())
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {name for name in before if ".lora_" in name} == optimizer.masters.keys()
    assert {key.split("|")[0] for key in optimizer.state_tensors()} == moved


def test_alpha_over_rank_scales_the_product() -> None:
    base = random_model()
    name = "model.layers.0.mlp.up_proj"
    model = adapted(copy.deepcopy(base), LoraTable(rank=4, alpha=6.0, targets=["up_proj"]))
    a, b = (model.get_parameter(f"{name}.lora_{matrix}.default.weight").detach() for matrix in "AB")
    expected = base.get_parameter(f"{name}.weight").detach() + 1.5 * b @ a
    torch.testing.assert_close(merged_weights(model)[f"{name}.weight"], expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_its_adapters_it_is_the_base_model_and_afterwards_it_is_adapted_again(
    any_model: PreTrainedModel, dtype: torch.dtype
) -> None:
    base = any_model.to(dtype)
    model = adapted(copy.deepcopy(base))
    optimizer = MasterAdamW(model, lr=1e-2, weight_decay=0.1)
    moved = logits(model)
    with pytest.raises(ZeroDivisionError), without_adapters(model):
        assert torch.equal(logits(model), logits(base))
        1 / 0  # noqa: B018
    assert torch.equal(logits(model), moved)
    assert not torch.equal(moved, logits(base))
    model(input_ids=IDS, labels=IDS).loss.backward()
    assert all(master.grad is not None for master in optimizer.masters.values())


def test_the_merged_weights_compute_the_policy(any_model: PreTrainedModel) -> None:
    base = any_model
    model = adapted(copy.deepcopy(base))
    policy = logits(model)
    assert merged_weights(model).keys() == base.state_dict().keys()
    base.load_state_dict(merged_weights(model))
    torch.testing.assert_close(logits(base), policy, atol=1e-4, rtol=1e-5)


def test_the_engine_samples_from_the_adapted_model_and_the_packed_layout_trains_it(any_model: PreTrainedModel) -> None:
    said: list[str] = []
    base = any_model
    params = SamplingParams(temperature=1.0, max_tokens=12)
    model = adapted(copy.deepcopy(base), moved=0.0)
    assert layout_of(model, said.append) == "packed"
    sampler = make_sampler(model, stop_tokens=[], slots=2, say=said.append)
    assert isinstance(sampler, SlotEngine) and not said
    assert has_plain_head(model)
    before = sampler.sample(PROMPTS, params, seed=0)
    assert before == SlotEngine(base, stop_tokens=[], slots=2).sample(PROMPTS, params, seed=0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.1)  # in place, under the steps that are recorded by now
    for prompt, response in zip(PROMPTS, sampler.sample(PROMPTS, params, seed=0), strict=True):
        ids = torch.tensor([prompt + response.tokens])
        with torch.no_grad():
            fresh = model(input_ids=ids, use_cache=False).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
        found = fresh.gather(-1, ids[0, len(prompt) :, None])[:, 0]
        torch.testing.assert_close(found, torch.tensor(response.logprobs), atol=1e-3, rtol=1e-3)


def test_gradients_do_not_depend_on_how_a_mini_batch_is_cut_and_laid_out() -> None:
    model = with_norms_in_double(adapted(random_model().double()))
    results = []
    for layout in ("padded", "packed"):
        for tokens in (50, 120, 10_000):
            [batch] = mini_batches_of(model, tokens=tokens, drift=1.5, layout=layout)
            run_update(model, batch, ALGORITHMS["release_7b"])
            results.append(gradients(model).clone())
    for a, b in pairwise(results):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)
    assert results[0].norm() > 1e-3


def test_in_the_first_mini_batch_every_log_ratio_is_exactly_zero_and_in_the_second_not() -> None:
    model = adapted(random_model())
    first, second = mini_batches_of(model, count=2)
    outcomes = [run_update(model, batch, ALGORITHMS["release_7b"], learning_rate=0.1) for batch in (first, second)]
    ratios = [torch.cat([one.output.log_ratio.flatten() for one in outcome.packs]) for outcome in outcomes]
    assert bool((ratios[0] == 0).all())
    assert float(ratios[1].abs().max()) > 1e-3


def test_recomputed_gradients_are_the_same_bits_with_less_kept(any_model: PreTrainedModel) -> None:
    model = adapted(any_model)
    check_recomputing(model)
    found, kept = [], []
    for on in (False, True):
        with recomputing(model, on=on):
            model.zero_grad()
            model(input_ids=IDS, labels=IDS, use_cache=False).loss.backward()
            found.append(gradients(model))
            kept.append(saved_elements(model))
    assert torch.equal(*found)
    assert kept[1] < kept[0] / 2


def test_what_frozen_weights_need_no_gradient_for_is_not_counted_as_work() -> None:
    full, low = compute_of(random_model()), compute_of(adapted(random_model()))
    assert full.frozen_per_token == 0
    assert low.frozen_per_token == full.per_token < low.per_token
    work = [(10, 0)]
    assert low.training_flops(work, []) < full.training_flops(work, []) < 1.5 * low.training_flops(work, [])


@pytest.mark.parametrize("targets", [["q_proj", "w_proj"], [], ["lm_head"], ["self_attn"], ["embed_tokens"]])
def test_targets_that_are_no_linear_layers_are_refused_in_one_line_with_those_that_are(targets: list[str]) -> None:
    with pytest.raises(UserError) as error:
        adapt(random_model(), LoraTable(targets=targets))
    linear = "['down_proj', 'gate_proj', 'k_proj', 'o_proj', 'q_proj', 'up_proj', 'v_proj']"
    assert str(error.value) == (
        f"model.lora.targets must be some of {linear}, the linear layers of Qwen2ForCausalLM without its head, "
        f"got {[target for target in targets if target != 'q_proj']}"
    )


def test_a_model_without_linear_layers_is_refused() -> None:
    model = GPT2LMHeadModel(GPT2Config(vocab_size=48, n_positions=64, n_embd=16, n_layer=1, n_head=2))
    with pytest.raises(UserError, match=r"must be some of \[\], the linear layers of GPT2LMHeadModel"):
        adapt(model, TABLE)


def test_a_missing_package_is_one_line_that_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError) as error:
        adapt(random_model(), TABLE)
    assert str(error.value) == f"[model.lora] needs the extra: {install_hint('lora')}"


def four_bit(model: PreTrainedModel) -> PreTrainedModel:
    pytest.importorskip("bitsandbytes")
    quantise(model, model.device)
    return model


def test_on_a_base_in_4_bits_the_sampler_and_the_scorer_compute_one_policy(any_model: PreTrainedModel) -> None:
    base = four_bit(any_model)
    model = adapted(copy.deepcopy(base))
    assert {p.dtype for name, p in model.named_parameters() if ".lora_" in name} == {torch.float32}
    with without_adapters(model):
        assert torch.equal(logits(model), logits(base))
    said: list[str] = []
    sampler = make_sampler(model, stop_tokens=[], slots=2, say=said.append)
    assert isinstance(sampler, SlotEngine) and layout_of(model, said.append) == "packed" and not said
    for prompt, response in zip(
        PROMPTS, sampler.sample(PROMPTS, SamplingParams(temperature=1.0, max_tokens=12), seed=0), strict=True
    ):
        ids = torch.tensor([prompt + response.tokens])
        with torch.no_grad():
            fresh = model(input_ids=ids, use_cache=False).logits.log_softmax(-1)[0, len(prompt) - 1 : -1]
        found = fresh.gather(-1, ids[0, len(prompt) :, None])[:, 0]
        torch.testing.assert_close(found, torch.tensor(response.logprobs), atol=1e-3, rtol=1e-3)
    first, second = mini_batches_of(model, count=2)
    outcomes = [run_update(model, batch, ALGORITHMS["release_7b"], learning_rate=0.1) for batch in (first, second)]
    ratios = [torch.cat([one.output.log_ratio.flatten() for one in outcome.packs]) for outcome in outcomes]
    assert bool((ratios[0] == 0).all()) and float(ratios[1].abs().max()) > 1e-3


def test_merged_weights_of_a_base_in_4_bits_compute_the_policy(any_model: PreTrainedModel) -> None:
    plain = copy.deepcopy(any_model)
    model = adapted(four_bit(any_model))
    assert merged_weights(model).keys() == plain.state_dict().keys()
    plain.load_state_dict(merged_weights(model))
    torch.testing.assert_close(logits(plain), logits(model), atol=1e-4, rtol=1e-5)


def test_work_by_weights_in_4_bits_is_counted_as_by_others() -> None:
    assert compute_of(adapted(four_bit(random_model()))).per_token == compute_of(adapted(random_model())).per_token


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_run_on_a_base_in_4_bits_is_resumed_bit_for_bit(folder: Path, dtype: str) -> None:
    pytest.importorskip("bitsandbytes")
    settings = RECIPE | {"model__dtype": dtype, "model__lora__base": "4bit", "objective__kl_coef": "0.01"}
    settings |= {"update__gradient_checkpointing": "true"}
    settings |= {"run__steps": "2", "checkpoint__every": "1", "eval__every": "1"}
    whole = run_recipe(folder, "whole", **settings)
    run_recipe(folder, "parts", **(settings | {"run__steps": "1"}))
    assert digests(run_recipe(folder, "parts", resume=True, **settings)) == digests(whole)
    assert whole.read_metrics()[-1]["policy/kl"] != 0
    assert "bitsandbytes" in whole.read_config()["versions"]
    weights = load_file(whole.all_checkpoints()[-1] / "model.safetensors")
    assert weights.keys() == load_file(folder / "model" / "model.safetensors").keys()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_resumed_run_equals_the_uninterrupted_one_bit_for_bit(folder: Path, dtype: str) -> None:
    settings = RECIPE | {"model__dtype": dtype, "update__gradient_checkpointing": "true"}
    settings |= {"run__steps": "2", "checkpoint__every": "1", "eval__every": "1"}
    whole = run_recipe(folder, "whole", **settings)
    run_recipe(folder, "parts", **(settings | {"run__steps": "1"}))
    resumed = run_recipe(folder, "parts", resume=True, **settings)
    assert digests(resumed) == digests(whole)
    assert whole.read_metrics()[-1]["policy/kl"] != 0


def test_a_checkpoint_holds_the_policy_for_transformers_and_the_adapters_for_peft(folder: Path) -> None:
    from peft import PeftModel

    newest = run_recipe(folder, "run", **RECIPE).all_checkpoints()[-1]
    base = AutoModelForCausalLM.from_pretrained(folder / "model")
    assert load_file(newest / "model.safetensors").keys() == load_file(folder / "model" / "model.safetensors").keys()
    policy = PeftModel.from_pretrained(copy.deepcopy(base), newest / "adapter").eval()
    merged = AutoModelForCausalLM.from_pretrained(newest)
    torch.testing.assert_close(logits(merged), logits(policy), atol=1e-5, rtol=1e-5)
    assert float((logits(merged) - logits(base)).abs().max()) > 1e-2
    state = load_file(newest / "optimizer.safetensors")
    assert state and all(".lora_" in name for name in state)
    hashed = json.loads((newest / "manifest.json").read_text())["files"]
    assert {"adapter/adapter_model.safetensors", "adapter/adapter_config.json"} < hashed.keys()


def test_another_base_than_the_run_began_with_is_refused(folder: Path) -> None:
    run_recipe(folder, "run", run__steps="2", **RECIPE)
    weights = load_file(folder / "model" / "model.safetensors")
    weights["model.layers.0.mlp.up_proj.weight"] *= 1.1
    save_file(weights, folder / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"the weights of model\.path changed"):
        run_recipe(folder, "run", resume=True, **RECIPE)


def test_a_damaged_adapter_makes_the_run_go_back_to_the_checkpoint_before(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_recipe(folder, "run", **RECIPE)
    adapter = run.all_checkpoints()[-1] / "adapter" / "adapter_model.safetensors"
    adapter.write_bytes(adapter.read_bytes()[:-1])
    run_recipe(folder, "run", resume=True, **RECIPE)
    assert "adapter_model.safetensors is damaged" in capsys.readouterr().out
