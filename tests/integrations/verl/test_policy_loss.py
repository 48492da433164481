import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("verl", reason="verl is not installed here; make test-verl has it")

from verl.trainer.ppo.core_algos import agg_loss, get_policy_loss_fn
from verl.workers.config import ActorConfig, FSDPActorConfig, FSDPEngineConfig, PolicyLossConfig

from fipo.integrations.verl.compat import VerlMismatch
from fipo.integrations.verl.policy_loss import options_of
from fipo.objective import ALGORITHMS, FIPOConfig, LossInputs, policy_loss

SURROGATES = sorted((Path(__file__).parents[2] / "objective" / "vectors" / "surrogates").glob("*.npz"))
NAMES = [
    "clamped_extremes", "dropped_sequences", "half_life_256", "half_life_8", "mask_with_holes", "no_influence_clip",
    "on_policy", "qwen32b_spikes", "qwen32b_typical", "qwen7b_spikes", "qwen7b_typical", "seq_mean_token_mean",
    "seq_mean_token_sum", "seq_sum_dropped", "single_token",
]  # fmt: skip


def call(vector, config):
    loss, metrics = get_policy_loss_fn("future_kl")(**vector.call, config=config, rollout_is_weights=None)
    loss.backward()
    return loss.detach(), metrics, vector.log_prob.grad


def batch_of(vector, *, ranks=1):
    """What verl's engine tells the loss of a mini-batch that is this one micro-batch."""
    mask = vector.call["response_mask"]
    return {"dp_size": ranks, "batch_num_tokens": int(mask.sum()), "global_batch_size": len(mask)}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-5)])
def test_the_golden_vectors_pass_through_the_function_that_verl_calls(name, dtype, tolerance, vector, actor_config):
    golden = vector(name, dtype)
    loss, _, gradient = call(golden, actor_config(golden.options, **golden.actor))
    assert loss.item() == pytest.approx(golden.metrics["loss"], rel=tolerance)
    difference = (gradient.double() - golden.gradient).abs().max()
    assert difference <= tolerance * golden.gradient.abs().max()


@pytest.mark.parametrize("mode", ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"])
@pytest.mark.parametrize("ranks", [1, 4])
def test_the_normalisation_is_verls_agg_loss(mode, ranks, vector, actor_config):
    golden = vector("mask_with_holes")
    golden.call["loss_agg_mode"] = mode
    config = actor_config({"preset": "dapo"}, loss_agg_mode=mode, loss_scale_factor=100)
    batch = {"dp_size": ranks, "batch_num_tokens": 4000, "global_batch_size": 64}
    config.global_batch_info.update(batch)
    ours, _, _ = call(golden, config)

    log_prob, old, advantages, mask = (
        golden.call[name] for name in ("log_prob", "old_log_prob", "advantages", "response_mask")
    )
    ratio = torch.where(mask, log_prob - old, 0.0).clamp(-20, 20).exp()
    losses = torch.maximum(-advantages * ratio, -advantages * ratio.clamp(0.8, 1.28))
    losses = torch.where(advantages < 0, torch.minimum(losses, -advantages * 10.0), losses)
    losses = torch.where(mask, losses, 0.0)
    theirs = agg_loss(losses, mask.double(), mode, **batch, loss_scale_factor=100)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-7)  # verl adds 1e-8 to a row's tokens


def test_the_loss_does_not_depend_on_how_verl_cuts_the_mini_batch(vector, actor_config):
    golden = vector("dropped_sequences")
    config = actor_config(golden.options, **golden.actor)
    config.global_batch_info.update(batch_of(golden))
    whole, _, gradient = call(golden, config)
    parts = vector("dropped_sequences")
    total = 0.0
    for rows in torch.arange(len(gradient)).split(3):
        piece = {key: value[rows] if torch.is_tensor(value) else value for key, value in parts.call.items()}
        loss, _ = get_policy_loss_fn("future_kl")(**piece, config=config)
        loss.backward()
        total += loss.item()
    assert total == pytest.approx(whole.item(), rel=1e-12)
    torch.testing.assert_close(parts.log_prob.grad, gradient, rtol=1e-12, atol=1e-14)


def test_where_sequences_are_dropped_verls_loss_is_smaller_by_the_kept_share_of_tokens(vector, actor_config):
    golden = vector("dropped_sequences")
    config = actor_config(golden.options, **golden.actor)
    config.global_batch_info.update(batch_of(golden))
    loss, _, gradient = call(golden, config)
    inputs = LossInputs(
        logprobs=golden.log_prob.detach(),
        old_logprobs=golden.call["old_log_prob"],
        advantages=golden.call["advantages"],
        loss_mask=golden.call["response_mask"],
    )
    out = policy_loss(inputs, config.policy_loss.algorithm().config)
    share = int(out.kept_tokens) / int(out.loss_mask.sum())
    assert share < 1
    print(f"dropped_sequences: verl's loss and gradient are {share:.4f} of objective.md's")
    assert loss.item() == pytest.approx(golden.metrics["loss"] * share, rel=1e-8)
    torch.testing.assert_close(gradient, golden.gradient * share, rtol=1e-6, atol=1e-12)


def test_the_metrics_of_the_stock_trainer_are_means_and_no_name_makes_verl_take_an_extreme(vector, actor_config):
    golden = vector("qwen32b_spikes")
    _, metrics, _ = call(golden, actor_config(golden.options, **golden.actor))
    assert metrics["fipo/influence_weight/mean"] == pytest.approx(golden.metrics["influence_weight_mean"])
    assert metrics["policy/kl"] == pytest.approx(golden.metrics["policy_kl"])
    assert not [name for name in metrics if "max" in name or "min" in name]


def test_the_stock_options_are_refused():
    config = FSDPActorConfig(
        strategy="fsdp2", rollout_n=4, ppo_micro_batch_size_per_gpu=8, policy_loss=PolicyLossConfig()
    )
    with pytest.raises(VerlMismatch, match=r"policy_loss\._target_ must be fipo"):
        get_policy_loss_fn("future_kl")(
            *(torch.zeros(1, 1),) * 3, response_mask=torch.ones(1, 1, dtype=torch.bool), config=config
        )


@pytest.mark.parametrize(("key", "value"), [("clip_ratio_low", 0.1), ("clip_ratio_high", 0.2), ("clip_ratio_c", 3.0)])
def test_a_clip_that_verl_has_otherwise_is_refused_by_its_key(key, value, vector, actor_config):
    with pytest.raises(ValueError, match=rf"actor.{key} must be .* got {value:g}"):
        call(vector("single_token"), actor_config({}, **{key: value}))


def test_sequence_parallelism_without_flash_attention_is_refused(vector, actor_config):
    golden = vector("qwen32b_typical")
    model = {"override_config": {"attn_implementation": "sdpa"}}
    engine = FSDPEngineConfig(ulysses_sequence_parallel_size=8, strategy="fsdp2")
    config = actor_config(golden.options, **golden.actor, fsdp_config=engine)
    call(golden, config)  # verl's default is flash attention
    config.model_config = model
    with pytest.raises(VerlMismatch, match="sequence parallelism of 8 needs flash attention, got 'sdpa'"):
        call(golden, config)


def test_an_engine_that_shards_without_gathering_is_refused(vector, actor_config):
    from fipo.integrations.verl.checks import check_engine

    def actor(strategy, **engine):
        return type("Actor", (), {"strategy": strategy, "engine": engine, "model_config": {}})

    check_engine(actor("torchtitan", context_parallel_size=1))
    check_engine(actor("megatron", context_parallel_size=4))
    for strategy, key in (("torchtitan", "context_parallel_size"), ("automodel", "cp_size")):
        with pytest.raises(VerlMismatch, match=rf"{strategy}\.{key} must be 1"):
            check_engine(actor(strategy, **{key: 2}))
    with pytest.raises(VerlMismatch, match=r"megatron\.dynamic_context_parallel must be off: it makes all ranks one"):
        check_engine(actor("megatron", context_parallel_size=4, dynamic_context_parallel=True))
    with pytest.raises(VerlMismatch, match=r"actor\.strategy must be one of .* got 'fsdp_turbo'"):
        check_engine(actor("fsdp_turbo"))


def test_verls_importance_weights_multiply_the_loss_of_their_tokens(vector, actor_config):
    golden = vector("mask_with_holes")
    config = actor_config(golden.options, **golden.actor)
    loss = partial(get_policy_loss_fn("future_kl"), **golden.call, config=config)
    plain, _ = loss(rollout_is_weights=None)
    ones, _ = loss(rollout_is_weights=torch.ones_like(golden.log_prob))
    assert torch.equal(ones, plain)

    weights = torch.linspace(0.5, 2.0, golden.log_prob.numel(), dtype=torch.float64).view_as(golden.log_prob)
    weighted, _ = loss(rollout_is_weights=weights)
    inputs = LossInputs(
        logprobs=golden.log_prob,
        old_logprobs=golden.call["old_log_prob"],
        advantages=golden.call["advantages"],
        loss_mask=golden.call["response_mask"],
        importance_weights=weights,
    )
    assert torch.equal(weighted, policy_loss(inputs, config.policy_loss.algorithm().config).loss)
    assert weighted != plain


def test_what_the_loss_cannot_honour_is_refused(vector, actor_config):
    golden = vector("single_token")
    loss = get_policy_loss_fn("future_kl")
    with pytest.raises(ValueError, match="loss_agg_mode must be one of token-mean"):
        loss(**{**golden.call, "loss_agg_mode": "token-sum"}, config=actor_config())
    with pytest.raises(ValueError, match="loss_scale_factor must be set"):
        loss(**{**golden.call, "loss_agg_mode": "seq-mean-token-sum-norm"}, config=actor_config())
    with pytest.raises(ValueError, match=r"need `python -m fipo.integrations.verl.main`"):
        loss(**golden.call, config=actor_config({"denominator": "kept"}))


def test_every_field_of_the_objective_is_an_option_or_a_key_of_the_actor(actor_config):
    for name, cfg in (("release_7b", FIPOConfig.release_7b()), ("paper_32b", FIPOConfig.paper_32b())):
        assert actor_config({"preset": name}).policy_loss.algorithm().config == cfg
    assert isinstance(actor_config(), ActorConfig)


@pytest.mark.parametrize("path", SURROGATES, ids=lambda path: path.stem)
def test_the_surrogates_vectors_pass_through_the_function_that_verl_calls(path, actor_config):
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    preset = max((name for name in ALGORITHMS if path.stem.startswith(name)), key=len)
    chosen = ALGORITHMS[preset].settings()
    knobs = {key: float(arrays[key]) for key in chosen if key in arrays and not math.isnan(arrays[key])}
    clips = {f"clip_ratio_{side}": knobs[f"clip_{side}"] for side in ("low", "high") if f"clip_{side}" in knobs}
    log_prob = torch.tensor(arrays["logprobs"], requires_grad=True)
    config = actor_config({"preset": preset, **knobs}, **clips)
    config.global_batch_info.update({"dp_size": 1, "batch_num_tokens": int(arrays["loss_mask"].sum())})
    config.global_batch_info["global_batch_size"] = len(log_prob)
    loss, _ = get_policy_loss_fn("future_kl")(
        old_log_prob=torch.tensor(arrays["old_logprobs"]),
        log_prob=log_prob,
        advantages=torch.tensor(arrays["advantages"]),
        response_mask=torch.tensor(arrays["loss_mask"]),
        loss_agg_mode=str(arrays["aggregation"]),
        config=config,
        rollout_is_weights=None,
    )
    loss.backward()
    assert loss.item() == pytest.approx(float(arrays["loss"]), rel=1e-8)
    torch.testing.assert_close(log_prob.grad, torch.tensor(arrays["grad"]), rtol=1e-8, atol=1e-10)


def test_a_clip_of_the_surrogate_that_is_another_one_in_the_actor_is_refused(actor_config):
    options_of(actor_config({"preset": "sapo"}, clip_ratio_low=0.7))  # it has no clip
    options_of(actor_config({"preset": "gspo"}, clip_ratio_low=3e-4, clip_ratio_high=4e-4, clip_ratio_c=3.0))
    with pytest.raises(ValueError, match=r"clip_ratio_low must be 0\.0003, the clip_low of its policy_loss"):
        options_of(actor_config({"preset": "gspo"}))
