"""What FIPOTrainer overrides and reads of the installed TRL. A failure here says what changed in the host."""

import inspect
import subprocess
import sys
from importlib import metadata

import pytest

pytest.importorskip("trl", reason="TRL is not installed here; make test-trl has an environment with it")

from trl import GRPOConfig, GRPOTrainer

from fipo.integrations.trl import version
from fipo.integrations.trl.groups import NOT_READ, PER_ROW
from fipo.integrations.trl.trainer import MODALITIES

# Each method that is overridden or called, with the parameters that it must have.
METHODS = {
    "__init__": ["self", "model", "reward_funcs", "args", "train_dataset"],
    "_calculate_rewards": ["self", "inputs", "prompts", "completions", "completion_ids_list"],
    "_generate_and_score_completions": ["self", "inputs"],
    "_prepare_inputs": ["self", "generation_batch"],
    "_compute_loss": ["self", "model", "inputs"],
    "training_step": ["self", "model", "inputs", "num_items_in_batch"],
    "log": ["self", "logs", "start_time"],
}
# Lines of TRL that the adapter relies on.
RELIED_ON = {
    "_prepare_inputs": [
        "self._step % generate_every == 0",
        "self._buffered_inputs = [",
        "inputs = self._buffered_inputs[self._step % self.args.steps_per_generation]",
    ],
    "training_step": ["self._step += 1"],
    "_generate_and_score_completions": [
        'output["old_per_token_logps"] = old_per_token_logps',
        "rewards_per_func = self._calculate_rewards(inputs, prompts, completions, completion_ids_list)",
        "if self.beta != 0.0:",
        "if self.use_vllm and self.vllm_importance_sampling_correction:",
        'output["sampling_per_token_logps"] = sampling_per_token_logps',
        'output["ref_per_token_logps"] = ref_per_token_logps',
    ],
    "_calculate_rewards": ["rewards_per_func = gather(rewards_per_func)"],
    "log": ['mode = "train" if self.model.training else "eval"', "self._metrics[mode].clear()"],
}


@pytest.mark.parametrize("name", METHODS)
def test_the_methods_have_the_parameters_that_we_know(name: str) -> None:
    found = list(inspect.signature(inspect.unwrap(getattr(GRPOTrainer, name))).parameters)
    assert found[: len(METHODS[name])] == METHODS[name]
    assert name == "__init__" or len(found) == len(METHODS[name])


def test_the_forward_pass_takes_tokens_and_the_modalities_that_we_pass_on() -> None:
    found = list(inspect.signature(inspect.unwrap(GRPOTrainer._get_per_token_logps_and_entropies)).parameters)
    assert found[:5] == ["self", "model", "input_ids", "attention_mask", "logits_to_keep"]
    assert set(found[5:]) == {"batch_size", "compute_entropy", "compute_aux_loss", *MODALITIES}


@pytest.mark.parametrize("name", RELIED_ON)
def test_the_lines_that_we_rely_on_are_there(name: str) -> None:
    source = inspect.getsource(inspect.unwrap(getattr(GRPOTrainer, name)))
    assert [line for line in RELIED_ON[name] if line not in source] == []


def test_a_generation_batch_has_the_keys_that_we_know() -> None:
    source = inspect.getsource(GRPOTrainer._generate_and_score_completions)
    built = source[source.rindex("        output = {") :]
    named = {name for name in PER_ROW | NOT_READ if f'"{name}"' in built}
    assert named == PER_ROW | NOT_READ


def test_trl_scales_the_loss_itself_and_accelerate_does_not() -> None:
    assert GRPOTrainer.loss_is_scaled_for_ga is True
    assert GRPOConfig.__dataclass_fields__["loss_type"].default == "dapo"


def test_the_supported_versions_are_those_of_the_extra() -> None:
    needed = [each for each in metadata.requires("fipo") or [] if each.startswith("trl")]
    (requirement,) = needed
    limits = requirement.split(";")[0].strip().removeprefix("trl")
    assert set(limits.split(",")) == set(version.SUPPORTED.removeprefix("trl").split(","))


@pytest.mark.parametrize("found", ["1.15.2", "1.17.0", "1.160.0", "2.0"])
def test_another_version_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    monkeypatch.setattr(metadata, "version", lambda _: found)
    with pytest.raises(ImportError, match=f"must have trl>=1.16,<1.17, got {found}: .*pip install"):
        version.require_trl()


def test_nothing_else_of_ours_imports_trl() -> None:
    code = "import fipo.cli, fipo.training, fipo.evaluation, fipo.report, sys; assert 'trl' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
