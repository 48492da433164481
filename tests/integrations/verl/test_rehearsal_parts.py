import pytest

pytest.importorskip("verl", reason="verl is not installed here; make test-verl has it")

import torch
from hydra import compose, initialize_config_module

from fipo.integrations.verl.compat import VerlMismatch
from fipo.integrations.verl.knobs import ACTOR, POLICY_LOSS
from fipo.integrations.verl.main import train
from fipo.integrations.verl.rehearsal import overrides
from fipo.integrations.verl.rehearsal.materials import write_materials
from fipo.integrations.verl.rehearsal.rollout import nucleus
from fipo.integrations.verl.validate import check_config
from fipo.telemetry.exit_codes import exit_code_of

KWARGS = "reward.custom_reward_function.reward_kwargs"
PATHS = {"model": "m", "train": "t", "validate": "v"}


def composed(*extra, changed=True):
    changes = {**overrides.material_changes(PATHS), **overrides.size_changes(), **overrides.device_changes(1)}
    lines = overrides.merged(overrides.algorithm(), changes if changed else {})
    with initialize_config_module("verl.trainer.config", version_base=None):
        return compose("ppo_trainer", [*lines, *extra])


def test_a_rehearsal_passes_verls_schema_and_our_checks_and_leaves_the_algorithm_alone():
    rehearsed, job = composed(), composed(changed=False)
    check_config(rehearsed)
    check_config(composed("++algorithm.rollout_correction.rollout_is=token"))
    assert rehearsed.algorithm == job.algorithm
    assert rehearsed.actor_rollout_ref.actor.policy_loss == job.actor_rollout_ref.actor.policy_loss
    for key in ("clip_ratio_low", "clip_ratio_high", "clip_ratio_c", "loss_agg_mode", "entropy_coeff", "optim"):
        assert rehearsed.actor_rollout_ref.actor[key] == job.actor_rollout_ref.actor[key]
    assert rehearsed.reward.reward_manager == job.reward.reward_manager


def test_what_the_user_says_wins_over_the_job_and_the_rehearsal():
    lines = overrides.merged(["+a.b=1", "c=2", "d=3"], {"c": "4", "e": "5"}, ["++a.b=6"])
    assert lines == ["d=3", "++c=4", "++e=5", "++a.b=6"]


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("actor_rollout_ref.actor.clip_ratio_high=0.2", ValueError, "clip_ratio_high must be 0.28"),
        ("actor_rollout_ref.actor.loss_agg_mode=token-sum", ValueError, "loss_agg_mode must be one of"),
        ("actor_rollout_ref.actor.ulysses_sequence_parallel_size=8", VerlMismatch, "needs flash attention, got 'sdpa'"),
        (
            "++algorithm.rollout_correction.bypass_mode=True",
            ValueError,
            "bypass_mode must be False with FIPO, got True",
        ),
        ("++distillation.enabled=True", ValueError, "distillation.enabled must be False with FIPO, got True"),
        ("++actor_rollout_ref.actor.policy_loss.decay_rate=32", ValueError, "released code is here half_life"),
        ("trainer.v1.trainer_mode=separate_async", ValueError, "must be sync, got separate_async: an asynchronous"),
        ("actor_rollout_ref.actor.policy_loss.loss_mode=vanilla", Exception, "loss_mode must be future_kl"),
        (
            "actor_rollout_ref.actor.policy_loss._target_=verl.workers.config.PolicyLossConfig",
            Exception,
            "unexpected keyword argument 'preset'",
        ),
    ],
)
def test_a_mistake_in_verls_configuration_is_refused_before_any_work(override, error, message):
    with pytest.raises(error, match=message):
        check_config(composed(override))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("actor_rollout_ref.actor.clip_ratio_high=0.2", f"{ACTOR}.clip_ratio_high must be 0.28, the clip_high of its"),
        (f"{POLICY_LOSS}.preset=fipoo", f"{POLICY_LOSS}: preset must be one of release_32b, "),
        (f"++{POLICY_LOSS}.halflife=3", f"{POLICY_LOSS}: FIPOPolicyLossConfig.__init__() got an unexpected keyword"),
        (f"++{KWARGS}.on_failure=maybe", f"{KWARGS}.on_failure must be zero or drop_group, got 'maybe'"),
    ],
)
def test_a_mistake_in_the_configuration_ends_the_job_with_one_line_and_2(override, said, capsys):
    assert exit_code_of(lambda: train(composed(override), None)) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[-1].startswith(f"fipo: {said}") and not any("Traceback" in line for line in error)


def test_an_asynchronous_trainer_that_is_asked_for_is_accepted():
    loss = "actor_rollout_ref.actor.policy_loss"
    check_config(composed("trainer.v1.trainer_mode=colocate_async", f"++{loss}.allow_async=True"))


def test_what_is_legal_but_not_what_it_seems_is_a_warning(caplog):
    check_config(composed("actor_rollout_ref.actor.ppo_mini_batch_size=8"))
    assert "every influence weight is 1 and FIPO is DAPO" in caplog.text
    assert "safety_threshold 10 >= dual_clip 10" in caplog.text


def test_the_tiny_model_keeps_its_probabilities_and_gets_the_tokens_that_verl_wants(tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from fipo import models

    paths = write_materials(tmp_path, train=4, validate=2)
    tokenizer = AutoTokenizer.from_pretrained(paths["model"])
    assert [len(tokenizer.encode(token)) for token in ("\n", "<|im_end|>")] == [1, 1]
    rendered = tokenizer.apply_chat_template([{"role": "user", "content": "7-3="}], tokenize=False)
    assert rendered == "7-3="
    tokens = tokenizer("7-3+9-8+2=", return_tensors="pt").input_ids
    new = AutoModelForCausalLM.from_pretrained(paths["model"])(tokens).logits
    old = AutoModelForCausalLM.from_pretrained(f"{next(iter(models.__path__))}/tiny")(tokens).logits
    torch.testing.assert_close(new[..., :20], old)
    assert new.softmax(-1)[..., 20:].max() < 1e-3


def test_top_p_keeps_the_fewest_tokens_that_reach_it():
    scores = torch.tensor([0.1, 0.5, 0.15, 0.25]).log()
    torch.testing.assert_close(nucleus(scores, 0.7), torch.tensor([0.0, 0.5, 0.0, 0.25]))
    torch.testing.assert_close(nucleus(scores, 1.0), scores.exp())
