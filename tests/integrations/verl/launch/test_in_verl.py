"""What `fipo launch` writes is what the installed verl understands."""

from dataclasses import fields
from pathlib import Path

import pytest

pytest.importorskip("verl", reason="verl is not installed here; make test-verl has it")

import torch
from hydra import compose, initialize_config_module
from verl.workers.config import PolicyLossConfig

from fipo.integrations.verl.config import FIPOPolicyLossConfig
from fipo.integrations.verl.knobs import KEYS, TARGET
from fipo.integrations.verl.launch.keys import overrides_of, schema_keys
from fipo.integrations.verl.launch.recipe import load_launch_recipe
from fipo.integrations.verl.launch.schema import installed_keys
from fipo.integrations.verl.policy_loss import options_of
from fipo.integrations.verl.rehearsal import overrides as rehearsal
from fipo.integrations.verl.validate import check_config
from fipo.objective import FIPOConfig

RECIPES = sorted((Path(__file__).parents[4] / "recipe" / "fipo").glob("*.toml"))
OBJECTIVES = {
    "fipo_qwen2.5_32b": FIPOConfig.release_32b(),
    "fipo_qwen2.5_32b_fp16": FIPOConfig.release_32b(),
    "fipo_qwen2.5_7b_math": FIPOConfig.release_7b(),
}


def test_the_committed_list_has_the_keys_of_the_installed_verl():
    assert installed_keys() == schema_keys()


def test_the_keys_of_the_policy_loss_are_those_of_its_configuration():
    ours = {field.name for field in fields(FIPOPolicyLossConfig)} - {field.name for field in fields(PolicyLossConfig)}
    assert set(KEYS) == ours
    assert f"{FIPOPolicyLossConfig.__module__}.{FIPOPolicyLossConfig.__name__}" == TARGET


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_verl_composes_every_recipe_and_the_plugin_accepts_it(path):
    from verl.utils.config import omega_conf_to_dataclass

    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides_of(load_launch_recipe(path, {}, {"RAY_DATA_HOME": "/data"})))
    check_config(config)
    actor = omega_conf_to_dataclass(config.actor_rollout_ref.actor)
    assert options_of(actor).algorithm().config == OBJECTIVES.get(path.stem, FIPOConfig.dapo())
    assert config.data.train_files == "/data/data/dapo-math-17k.parquet"
    assert list(config.trainer.logger) == ["console", "wandb", "file"]


def test_the_float16_recipe_reaches_verls_engine_which_scales_losses_for_it_and_the_sampler():
    import inspect

    from verl.utils.config import omega_conf_to_dataclass
    from verl.utils.torch_dtypes import PrecisionType
    from verl.workers.engine import FSDPEngineWithLMHead

    path = RECIPES[0].with_name("fipo_qwen2.5_32b_fp16.toml")
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", overrides_of(load_launch_recipe(path, {}, {})))
    engine = omega_conf_to_dataclass(config.actor_rollout_ref.actor).engine
    assert PrecisionType.to_dtype(engine.mixed_precision["param_dtype"]) == torch.float16
    assert PrecisionType.to_dtype(engine.mixed_precision["reduce_dtype"]) == torch.float32
    assert engine.model_dtype == "fp32"  # of the weights themselves
    assert config.actor_rollout_ref.rollout.dtype == "float16"
    source = inspect.getsource(FSDPEngineWithLMHead._build_fsdp_module)
    assert "ShardedGradScaler" in source
    assert "engine_config.dtype" not in inspect.getsource(inspect.getmodule(FSDPEngineWithLMHead))  # read by Megatron


@pytest.mark.parametrize("text", ["it's, {a}", "a=b c", "back\\slash", "ends\\", "a\\'b"])
def test_a_text_reaches_verl_as_it_was_written(text):
    path = RECIPES[0]
    recipe = load_launch_recipe(path, {}, {})
    trainer = {**recipe.verl["trainer"], "project_name": text}
    recipe = recipe.model_copy(update={"verl": {**recipe.verl, "trainer": trainer}})
    with initialize_config_module("verl.trainer.config", version_base=None):
        assert compose("ppo_trainer", overrides_of(recipe)).trainer.project_name == text


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_what_a_rehearsal_changes_fits_every_recipe(path):
    job = overrides_of(load_launch_recipe(path, {}, {}))
    changes = {**rehearsal.size_changes(), **rehearsal.learning_changes(), **rehearsal.device_changes(ranks=2)}
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose("ppo_trainer", rehearsal.merged(job, changes))
    check_config(config)
    assert config.reward.reward_kwargs.max_resp_len == config.data.max_response_length == rehearsal.RESPONSE
    optimizer = config.actor_rollout_ref.actor.optim
    assert (optimizer.lr, optimizer.lr_warmup_steps) == (1e-3, 0)
