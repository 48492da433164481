"""TRL's KL penalty and importance weights under FIPOTrainer, against TRL's own trainer."""

from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("trl", reason="TRL is not installed here; make test-trl has an environment with it")

from tests.conftest import random_model
from tests.integrations.trl.helpers import Rollouts, logged, make_trainer, random_rollouts
from transformers import AutoModelForCausalLM
from trl import GRPOConfig, GRPOTrainer

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


@pytest.fixture
def model_folder(tmp_path: Path) -> Path:
    """A model that TRL can load a second time, as the reference."""
    random_model(scale=4.0).double().save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def trained_by_both(tmp_path: Path, model_folder: Path, *, weights: bool = False, **options: Any) -> list[Any]:
    """Two steps on one batch of eight responses, by Dr. GRPO: the one loss that both have digit for digit."""
    rollouts = random_rollouts(2, 4)
    common = {"num_iterations": 2, "max_steps": 2, "per_device_train_batch_size": 8, **options}
    common |= {"use_bias_correction_kl": False, "vllm_importance_sampling_mode": "token_truncate"}

    def made(name: str, **own: Any) -> Any:
        model = AutoModelForCausalLM.from_pretrained(model_folder)
        return make_trainer(tmp_path / name, rollouts, model=model, logprobs=weights, **common, **own)

    ours = made(
        "ours", preset="dr_grpo", mini_batches=1, dynamic_sampling=False, vllm_importance_sampling_correction=weights
    )
    theirs = made("theirs", loss_type="dr_grpo", scale_rewards="none", host=(GRPOTrainer, GRPOConfig))
    if weights:
        theirs.use_vllm, theirs._last_loaded_step = True, 0  # as if its rollouts came from vLLM
    for trainer in (ours, theirs):
        trainer.train()
    return [ours, theirs]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"beta": 0.5},
        {"weights": True, "vllm_importance_sampling_clip_max": 1.5},
        {"beta": 0.5, "weights": True, "vllm_importance_sampling_clip_max": 1.5},
    ],
)
def test_dr_grpo_moves_the_weights_as_trl_does(tmp_path: Path, model_folder: Path, options: dict[str, Any]) -> None:
    ours, theirs = trained_by_both(tmp_path, model_folder, **options)
    start = AutoModelForCausalLM.from_pretrained(model_folder)
    for name, parameter in ours.model.named_parameters():
        before = start.get_parameter(name)
        torch.testing.assert_close(parameter - before, theirs.model.get_parameter(name) - before, rtol=1e-5, atol=1e-8)
    assert any(not torch.equal(each, start.get_parameter(name)) for name, each in ours.model.named_parameters())


def test_the_divergence_from_the_reference_is_trls_own(tmp_path: Path, model_folder: Path) -> None:
    ours, theirs = trained_by_both(tmp_path, model_folder, beta=0.5)
    measured = [entry["policy/reference_kl"] for entry in logged(ours)]
    assert measured == pytest.approx([entry["kl"] for entry in logged(theirs)], rel=1e-5)
    assert measured[0] == 0 < measured[1]


def test_the_weights_of_the_sampler_are_trls_own(tmp_path: Path, model_folder: Path) -> None:
    ours, theirs = trained_by_both(tmp_path, model_folder, weights=True, vllm_importance_sampling_clip_max=1.5)
    (here, *_), (there, *_) = logged(ours), logged(theirs)
    assert here["rollout/importance_weight/max"] == there["sampling/importance_sampling_ratio/max"] == 1.5
    for key, name in {
        "rollout/importance_weight/mean": "sampling/importance_sampling_ratio/mean",
        "rollout/logprob_gap/mean": "sampling/sampling_logp_difference/mean",
        "rollout/logprob_gap/max": "sampling/sampling_logp_difference/max",
    }.items():
        assert here[key] == pytest.approx(there[name], rel=1e-5)
    assert 0 < here["rollout/importance_weight/capped"] < 1


def refilled(tmp_path: Path, rollouts: Rollouts, **options: Any) -> Any:
    trainer = make_trainer(tmp_path, rollouts, mini_batches=2, max_steps=2, logprobs=True, **options)
    trainer.train()
    return trainer


def test_the_weights_follow_their_sequences_through_dynamic_sampling(tmp_path: Path) -> None:
    trainer = refilled(tmp_path, random_rollouts(4, 4, constant=[0]), vllm_importance_sampling_correction=True)
    for part in trainer._buffered_inputs:
        mask = part["completion_mask"].bool()
        reported = -0.1 * (part["completion_ids"] % 60).double()
        expected = (part["old_per_token_logps"] - reported).exp().clamp(max=3.0)
        torch.testing.assert_close(part["importance_sampling_ratio"][mask], expected[mask].float(), rtol=1e-5, atol=0)


def test_without_weights_the_gap_to_the_sampler_is_still_measured(tmp_path: Path) -> None:
    log, *_ = logged(refilled(tmp_path, random_rollouts(4, 4)))
    assert 0 < log["rollout/logprob_gap/mean"] < log["rollout/logprob_gap/max"]
    assert "rollout/importance_weight/mean" not in log


def test_weights_without_log_probs_of_the_sampler_are_refused(tmp_path: Path) -> None:
    trainer = make_trainer(
        tmp_path, random_rollouts(4, 4), mini_batches=2, max_steps=2, vllm_importance_sampling_correction=True
    )
    with pytest.raises(ValueError, match="vllm_importance_sampling_correction must be off where rollout_func gives no"):
        trainer.train()
