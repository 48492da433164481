"""Every key of verl's that a rehearsal changes, and why. Of the algorithm the learning rate alone is among them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from fipo.integrations.verl.rehearsal.registration import ROLLOUT

PROMPT, RESPONSE, BUFFER = 32, 64, 16  # tokens
PROMPTS, MINI_BATCH, GROUP = 8, 4, 4
A = "actor_rollout_ref"

Changes = dict[str, str]


def size_changes() -> Changes:
    """Lengths and batches: what two cores do in seconds."""
    return {
        "data.max_prompt_length": str(PROMPT),
        "data.max_response_length": str(RESPONSE),
        "data.train_batch_size": str(PROMPTS),
        "data.gen_batch_size": str(PROMPTS),
        "data.dataloader_num_workers": "0",
        f"{A}.rollout.n": str(GROUP),
        f"{A}.actor.ppo_mini_batch_size": str(MINI_BATCH),
        f"{A}.actor.ppo_micro_batch_size_per_gpu": "8",
        f"{A}.actor.ppo_max_token_len_per_gpu": str(8 * (PROMPT + RESPONSE)),
        f"{A}.rollout.log_prob_micro_batch_size_per_gpu": "8",
        f"{A}.rollout.log_prob_max_token_len_per_gpu": str(8 * (PROMPT + RESPONSE)),
        "reward.reward_kwargs.max_resp_len": str(RESPONSE),
        "reward.reward_kwargs.overlong_buffer_cfg.len": str(BUFFER),
    }


def learning_changes() -> Changes:
    """As published, 1e-6 behind a warm-up, two steps would leave every weight f within 4e-5 of 1."""
    return {f"{A}.actor.optim.lr": "1e-3", f"{A}.actor.optim.lr_warmup_steps": "0"}


def device_changes(ranks: int) -> Changes:
    """Devices, engines and parallel sizes."""
    return {
        "trainer.device": "cpu",
        "trainer.nnodes": "1",
        "trainer.n_gpus_per_node": str(ranks),
        "ray_kwargs.ray_init.num_gpus": str(ranks),  # logical: platform.py
        "ray_kwargs.ray_init.num_cpus": "16",  # logical: actors that mostly wait
        "ray_kwargs.ray_init.include_dashboard": "False",
        f"{A}.actor.strategy": "fsdp2",  # FSDP1 wants a GPU
        f"{A}.actor.ulysses_sequence_parallel_size": "1",
        f"{A}.actor.fsdp_config.param_offload": "False",
        f"{A}.actor.fsdp_config.optimizer_offload": "False",
        f"{A}.actor.fsdp_config.use_torch_compile": "False",
        f"{A}.actor.use_torch_compile": "False",
        f"{A}.actor.fsdp_config.mixed_precision.param_dtype": "fp32",
        f"{A}.actor.fsdp_config.mixed_precision.reduce_dtype": "fp32",
        f"{A}.model.enable_gradient_checkpointing": "False",
        f"{A}.model.override_config.attn_implementation": "sdpa",
        f"{A}.rollout.name": ROLLOUT,
        f"{A}.rollout.tensor_model_parallel_size": "1",
        f"{A}.rollout.agent.num_workers": "1",
        "reward.num_workers": "1",
        "transfer_queue.backend.SimpleStorage.num_data_storage_units": "1",
    }


def material_changes(paths: dict[str, Path]) -> Changes:
    """Model, data, and a grader for what the tiny model writes: its answers have no `Answer:` line."""
    return {
        f"{A}.model.path": str(paths["model"]),
        "data.train_files": str(paths["train"]),
        "data.val_files": str(paths["validate"]),
        "reward.custom_reward_function.reward_kwargs.grader": "number",
    }


def algorithm() -> list[str]:
    """A job for a rehearsal without a recipe: FIPO as released for 32B, with dynamic sampling and overlong rewards."""
    loss = f"{A}.actor.policy_loss"
    return [
        "algorithm.adv_estimator=grpo",
        "algorithm.use_kl_in_reward=False",
        "algorithm.filter_groups.enable=True",
        "algorithm.filter_groups.metric=acc",
        f"{loss}._target_=fipo.integrations.verl.config.FIPOPolicyLossConfig",
        f"{loss}.loss_mode=future_kl",
        f"+{loss}.preset=release_32b",
        f"{A}.actor.clip_ratio_low=0.2",
        f"{A}.actor.clip_ratio_high=0.28",
        f"{A}.actor.clip_ratio_c=10.0",
        f"{A}.actor.loss_agg_mode=token-mean",
        f"{A}.actor.use_kl_loss=False",
        f"{A}.actor.entropy_coeff=0",
        f"{A}.actor.optim.lr=1e-3",
        f"{A}.actor.optim.weight_decay=0.1",
        f"{A}.actor.optim.clip_grad=1.0",
        f"{A}.rollout.temperature=1.0",
        f"{A}.rollout.top_p=1.0",
        f"{A}.rollout.val_kwargs.do_sample=True",
        f"{A}.rollout.val_kwargs.temperature=1.0",
        f"{A}.rollout.val_kwargs.top_p=0.7",
        "reward.custom_reward_function.path=pkg://fipo.integrations.verl.reward",
        "reward.custom_reward_function.name=compute_score",
        "+reward.custom_reward_function.reward_kwargs.grader=dapo",
        "reward.reward_manager.name=dapo",
        "+reward.reward_kwargs.max_resp_len=20480",
        "+reward.reward_kwargs.overlong_buffer_cfg.enable=True",
        "+reward.reward_kwargs.overlong_buffer_cfg.len=4096",
        "+reward.reward_kwargs.overlong_buffer_cfg.penalty_factor=1.0",
        "+reward.reward_kwargs.overlong_buffer_cfg.log=True",
        "trainer.logger=[console,file]",
        "trainer.project_name=fipo",
        "trainer.experiment_name=rehearsal",
        "trainer.total_training_steps=2",
        "trainer.val_before_train=True",
        "trainer.test_freq=2",
        "trainer.save_freq=2",
        "trainer.resume_mode=auto",
    ]


def merged(job: Iterable[str], changes: Changes, extra: Sequence[str] = ()) -> list[str]:
    """Hydra's overrides of a job with some keys changed, then others; `++` sets a key, in the schema or not."""
    replaced = keys_of(extra) | set(changes)
    kept = [line for line in job if not keys_of([line]) & replaced]
    return [*kept, *(f"++{key}={value}" for key, value in changes.items()), *extra]


def keys_of(overrides: Iterable[str]) -> set[str]:
    return {override.split("=", 1)[0].lstrip("+~") for override in overrides}
