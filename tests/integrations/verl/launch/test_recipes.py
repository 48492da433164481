"""The recipes for verl: the values of the paper's table (App. B), and baselines that are matched."""

from pathlib import Path

import pytest

from fipo.errors import UserError
from fipo.integrations.verl.launch.estimate import checkpoint_bytes, estimate, hours
from fipo.integrations.verl.launch.keys import overrides_of
from fipo.integrations.verl.launch.recipe import load_launch_recipe

FOLDER = Path(__file__).parents[4] / "recipe" / "fipo"
PATHS = sorted(FOLDER.glob("*.toml"))
ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
COLUMNS = (
    *(f"{ROLLOUT}.n", f"{ACTOR}.ppo_mini_batch_size", "data.max_response_length"),
    *("+reward.reward_kwargs.overlong_buffer_cfg.len", "data.gen_batch_size", f"+{ACTOR}.policy_loss.preset"),
)
TABLE = {
    "fipo_qwen2.5_32b": ("16", "64", "20480", "4096", "2048", "release_32b"),
    "fipo_qwen2.5_32b_fp16": ("16", "64", "20480", "4096", "2048", "release_32b"),
    "dapo_qwen2.5_32b": ("16", "32", "20480", "4096", "1536", "dapo"),
    "dapo_qwen2.5_32b_matched": ("16", "64", "20480", "4096", "2048", "dapo"),
    "fipo_qwen2.5_7b_math": ("32", "64", "10240", "2048", "1536", "release_7b"),
    "dapo_qwen2.5_7b_math": ("16", "32", "8192", "4096", "1536", "dapo"),
    "dapo_qwen2.5_7b_math_matched": ("32", "64", "10240", "2048", "1536", "dapo"),
}
SHARED = {
    "data.train_batch_size": 512,
    "data.max_prompt_length": 2048,
    f"{ACTOR}.optim.lr": 1e-6,
    f"{ACTOR}.optim.lr_scheduler_type": "constant",
    f"{ACTOR}.optim.lr_warmup_steps": 10,
    f"{ACTOR}.optim.weight_decay": 0.1,
    f"{ACTOR}.optim.clip_grad": 1.0,
    f"{ACTOR}.clip_ratio_low": 0.2,
    f"{ACTOR}.clip_ratio_high": 0.28,
    f"{ACTOR}.clip_ratio_c": 10.0,
    f"{ACTOR}.loss_agg_mode": "token-mean",
    f"{ACTOR}.use_kl_loss": False,
    f"{ACTOR}.entropy_coeff": 0,
    f"{ROLLOUT}.temperature": 1.0,
    f"{ROLLOUT}.top_p": 1.0,
    f"{ROLLOUT}.gpu_memory_utilization": 0.8,
    f"{ROLLOUT}.val_kwargs.temperature": 1.0,
    f"{ROLLOUT}.val_kwargs.top_p": 0.7,
    f"{ROLLOUT}.val_kwargs.n": 1,
    "algorithm.use_kl_in_reward": False,
    "algorithm.filter_groups.enable": True,
    "algorithm.filter_groups.metric": "acc",
    "algorithm.filter_groups.max_num_gen_batches": 10,
    "trainer.val_before_train": True,
    "trainer.test_freq": 5,
    "trainer.save_freq": 5,
    "trainer.resume_mode": "auto",
    "trainer.total_epochs": 1,
    "trainer.n_gpus_per_node": 8,
}


def command_of(name: str) -> dict[str, str]:
    lines = overrides_of(load_launch_recipe(FOLDER / f"{name}.toml", {}, {"RAY_DATA_HOME": "/data"}))
    return dict(line.split("=", 1) for line in lines)


def test_there_is_a_recipe_for_every_published_run_its_matched_baseline_and_float16() -> None:
    assert {path.stem for path in PATHS} == set(TABLE)


@pytest.mark.parametrize("name", TABLE)
def test_a_recipe_gives_the_values_of_the_table(name: str) -> None:
    command = command_of(name)
    assert tuple(command[key] for key in COLUMNS) == TABLE[name]
    assert {key: command[key] for key in SHARED} == {key: str(value) for key, value in SHARED.items()}
    response = int(command["data.max_response_length"])
    assert command["+reward.reward_kwargs.max_resp_len"] == str(response)
    assert command[f"{ACTOR}.ppo_max_token_len_per_gpu"] == str(2048 + response)
    assert command["trainer.experiment_name"] == name
    assert command.get("+actor_rollout_ref.model.override_config.max_position_embeddings") == (
        "32768" if "7b" in name else None
    )


@pytest.mark.parametrize(
    ("size", "nodes", "sequence", "tensor", "sharded"), [("32b", 16, 8, 4, -1), ("7b_math", 8, 4, 4, 32)]
)
def test_a_recipe_has_the_machines_of_its_launcher(
    size: str, nodes: int, sequence: int, tensor: int, sharded: int
) -> None:
    for name in (name for name in TABLE if size in name):
        command = command_of(name)
        assert command["trainer.nnodes"] == str(nodes)
        assert command[f"{ACTOR}.ulysses_sequence_parallel_size"] == str(sequence)
        assert command[f"{ROLLOUT}.tensor_model_parallel_size"] == str(tensor)
        assert command[f"{ACTOR}.fsdp_config.fsdp_size"] == str(sharded)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_old_log_probs_come_from_packs_of_the_width_of_the_update(path: Path) -> None:
    command = command_of(path.stem)
    assert command[f"{ROLLOUT}.log_prob_use_dynamic_bsz"] == command[f"{ACTOR}.use_dynamic_bsz"]
    assert command[f"{ROLLOUT}.log_prob_max_token_len_per_gpu"] == command[f"{ACTOR}.ppo_max_token_len_per_gpu"]


@pytest.mark.parametrize("size", ["32b", "7b_math"])
def test_a_matched_baseline_differs_in_the_objective_and_the_name_alone(size: str) -> None:
    ours, twin = command_of(f"fipo_qwen2.5_{size}"), command_of(f"dapo_qwen2.5_{size}_matched")
    assert ours.keys() == twin.keys()
    assert {key for key in ours if ours[key] != twin[key]} == {
        f"+{ACTOR}.policy_loss.preset",
        "trainer.experiment_name",
        "trainer.default_local_dir",
    }


def test_the_float16_recipe_differs_in_precision_and_name_alone() -> None:
    published, half = command_of("fipo_qwen2.5_32b"), command_of("fipo_qwen2.5_32b_fp16")
    mixed = f"+{ACTOR}.fsdp_config.mixed_precision"
    assert {key: value for key, value in half.items() if published.get(key) != value} == {
        f"{mixed}.param_dtype": "fp16",
        f"{mixed}.reduce_dtype": "fp32",
        f"{mixed}.buffer_dtype": "fp32",
        f"{ROLLOUT}.dtype": "float16",
        "trainer.experiment_name": "fipo_qwen2.5_32b_fp16",
        "trainer.default_local_dir": "/data/ckpts/fipo/fipo_qwen2.5_32b_fp16",
    }


def test_the_estimate_of_the_32b_run() -> None:
    found = estimate(load_launch_recipe(FOLDER / "fipo_qwen2.5_32b.toml", {}, {}))
    assert (found.gpus, found.responses, found.updates) == (128, 512 * 16, 8)
    assert found.tokens == 512 * 16 * 20480
    # 32.76e9 weights: 16 bytes of each over 128 GPUs, and 2 bytes of each over 4
    assert found.training["float32 weights, gradients and AdamW's state"] == pytest.approx(16 * 32.76e9 / 128, rel=1e-3)
    assert found.sampling["weights"] == pytest.approx(2 * 32.76e9 / 4, rel=1e-3)
    assert sum(found.sampling.values()) == pytest.approx(0.8 * 80 * 2**30)
    # a token's keys and values: 64 layers x 8 heads x 128 x 2 x 2 bytes = 256 KiB, over 4 GPUs
    assert found.cached_sequences == pytest.approx(found.sampling["key-value cache"] / (2**16 * 22528))


def test_a_model_that_is_sharded_over_fewer_gpus_takes_more_of_each() -> None:
    path = FOLDER / "fipo_qwen2.5_7b_math.toml"
    found = estimate(load_launch_recipe(path, {}, {}))
    assert found.gpus == 64
    assert found.training["float32 weights, gradients and AdamW's state"] == pytest.approx(16 * 7_615_616_512 / 32)
    key = "verl.actor_rollout_ref.actor.fsdp_config.fsdp_size"
    with pytest.raises(UserError, match=f"{key} must divide the 64 GPUs, got 48"):
        estimate(load_launch_recipe(path, {key: "48"}, {}))


def test_a_checkpoint_of_the_32b_run_is_12_bytes_of_each_weight_unless_less_is_saved() -> None:
    path, key = FOLDER / "fipo_qwen2.5_32b.toml", "verl.actor_rollout_ref.actor.checkpoint.save_contents"
    assert checkpoint_bytes(load_launch_recipe(path, {}, {})) == 12 * 32_763_876_352
    assert checkpoint_bytes(load_launch_recipe(path, {key: '["model", "extra"]'}, {})) == 4 * 32_763_876_352


def test_the_hours_of_a_step_by_hand() -> None:
    recipe = load_launch_recipe(FOLDER / "fipo_qwen2.5_32b.toml", {}, {})
    training, sampling = hours(recipe, 1.0)
    a_token = 5 * (2 * 32_763_876_352 + 2 * 64 * 5120 * 22528)
    assert training == pytest.approx(8192 * 22528 * a_token / (128 * 989e12 * 0.4) / 3600)
    # a replica of 4 GPUs decodes 256 responses, the 35.4 that its cache holds at a time; each token reads the weights
    # and, on average, half of that cache
    found = estimate(recipe)
    read = found.sampling["weights"] + found.sampling["key-value cache"] / 2
    assert sampling == pytest.approx(256 / found.cached_sequences * 20480 * read / (3350e9 * 0.6) / 3600)


def test_more_gpus_take_less_and_short_responses_far_less() -> None:
    path = FOLDER / "fipo_qwen2.5_32b.toml"
    few, many = (load_launch_recipe(path, {"job.nnodes": nodes}, {}) for nodes in ("8", "16"))
    assert sum(hours(few, 1.0)) > sum(hours(many, 1.0)) > 4 * sum(hours(many, 0.25))
