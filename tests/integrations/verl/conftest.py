"""verl's own configuration objects around the golden vectors."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

VECTORS = Path(__file__).parents[2] / "objective" / "vectors"


class Vector:
    """A golden vector under verl's names."""

    def __init__(self, path, dtype=torch.float64):
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
        self.released, self.metrics = (json.loads(str(arrays.pop(name))) for name in ("config", "metrics"))
        self.gradient = torch.from_numpy(arrays["grad_logprobs"])
        self.log_prob = torch.from_numpy(arrays["logprobs"]).to(dtype).requires_grad_()
        self.call = {
            "old_log_prob": torch.from_numpy(arrays["old_logprobs"]).to(dtype),
            "log_prob": self.log_prob,
            "advantages": torch.from_numpy(arrays["advantages"]).to(dtype),
            "response_mask": torch.from_numpy(arrays["loss_mask"]),
            "loss_agg_mode": self.released["loss_agg_mode"],
        }

    @property
    def options(self):
        e = self.released["influence_clip"]
        low = 1.0 if self.released["influence_clip_high_only"] else 1 - e
        names = ("half_life", "safety_threshold", "clip_low", "clip_high", "dual_clip")
        return {**{name: self.released[name] for name in names}, "influence_clip": [low, 1 + e] if e else None}

    @property
    def actor(self):
        return {
            "loss_agg_mode": self.released["loss_agg_mode"],
            "clip_ratio_low": self.released["clip_low"],
            "clip_ratio_high": self.released["clip_high"],
            "clip_ratio_c": self.released["dual_clip"],
        }


@pytest.fixture
def vector():
    return lambda name, dtype=torch.float64: Vector(VECTORS / f"{name}.npz", dtype)


@pytest.fixture
def actor_config():
    """Builds verl's actor configuration with FIPO's options, as the training workers do."""
    from verl.workers.config import FSDPActorConfig

    from fipo.integrations.verl.config import FIPOPolicyLossConfig

    def build(options=None, **actor):
        settings = {
            "strategy": "fsdp2",
            "rollout_n": 4,
            "ppo_micro_batch_size_per_gpu": 8,
            "clip_ratio_low": 0.2,
            "clip_ratio_high": 0.28,
            "clip_ratio_c": 10.0,
        }
        return FSDPActorConfig(**{**settings, **actor}, policy_loss=FIPOPolicyLossConfig(**(options or {})))

    return build
