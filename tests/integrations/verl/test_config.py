import subprocess
import sys

import pytest

pytest.importorskip("verl", reason="verl is not installed here; make test-verl has it")

from hydra.errors import InstantiationException
from omegaconf import OmegaConf
from verl.utils.config import omega_conf_to_dataclass

from fipo.integrations.verl import compat, policy_loss
from fipo.integrations.verl.config import FIPOPolicyLossConfig
from fipo.objective import FIPOConfig

TARGET = "fipo.integrations.verl.config.FIPOPolicyLossConfig"


def built(**options):
    """As verl builds it from its YAML, whose stock keys are always there."""
    stock = {"loss_mode": "future_kl", "clip_cov_ratio": 0.0002, "ppo_kl_coef": 0.1}
    return omega_conf_to_dataclass(OmegaConf.create({"_target_": TARGET, **stock, **options}))


def test_a_preset_and_what_is_changed_in_it():
    options = built(preset="release_7b", half_life=8, influence_clip=[0.9, 1.1], max_dual_clipped_tokens=None)
    expected = FIPOConfig(half_life=8, influence_clip=(0.9, 1.1), safety_threshold=3.0, max_dual_clipped_tokens=None)
    assert options.algorithm().config == expected
    assert built().algorithm().config == FIPOConfig.release_32b()
    assert built(influence_clip=None).algorithm().config.influence_bounds == (0.0, 10.0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"half_live": 8}, "unexpected keyword argument 'half_live'"),
        ({"preset": "release_70b"}, "preset must be one of release_32b.* got 'release_70b'"),
        ({"half_life": -3}, "policy_loss: half_life must be > 0 tokens, got -3"),
        ({"half_life": "long"}, "half_life must be a number, got 'long'"),
        ({"loss_mode": "vanilla"}, "loss_mode must be future_kl, got 'vanilla'"),
        ({"denominator": "mine"}, "denominator must be verl or kept, got 'mine'"),
        ({"credit_sequences": 2}, "credit_sequences > 0 and credit_dir go together"),
    ],
)
def test_what_is_wrong_is_refused_with_its_key(options, message):
    with pytest.raises(InstantiationException, match=message):
        built(**options)


def test_a_process_without_the_plugin_is_told_when_the_options_are_built():
    program = f"""
import verl
from verl.utils.config import omega_conf_to_dataclass
omega_conf_to_dataclass({{"_target_": "{TARGET}", "loss_mode": "future_kl"}})
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env={"VERL_USE_EXTERNAL_PLUGINS": "none", "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert "VerlMismatch" in done.stderr and "verl did not load the plugin `fipo`" in done.stderr


def test_another_version_of_verl_is_refused(monkeypatch):
    import verl

    for version in ("0.9.0", "0.10.0"):
        monkeypatch.setattr(verl, "__version__", version)
        with pytest.raises(compat.VerlMismatch, match=f"fipo needs verl >= 0.9.1, < 0.10, got {version}"):
            FIPOPolicyLossConfig()


def test_a_changed_interface_is_refused(monkeypatch):
    from verl.trainer.ppo import core_algos

    monkeypatch.setitem(core_algos.POLICY_LOSS_REGISTRY, "vanilla", lambda old_log_prob, log_prob, clip: None)
    with pytest.raises(compat.VerlMismatch, match=r"'vanilla' must take .*got .old_log_prob, log_prob, clip"):
        FIPOPolicyLossConfig()


def test_another_loss_under_our_name_is_refused(monkeypatch):
    from verl.trainer.ppo import core_algos

    monkeypatch.setitem(core_algos.POLICY_LOSS_REGISTRY, policy_loss.LOSS_NAME, lambda: None)
    with pytest.raises(compat.VerlMismatch, match="must be fipo's"):
        FIPOPolicyLossConfig()
