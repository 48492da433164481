"""Rollouts as the trainer records them, with the credit that the objective gives."""

from typing import Any

import torch

from fipo.objective import FIPOConfig, LossInputs, policy_loss, token_credit

CONFIG = FIPOConfig.release_7b()
RESOLVED = {
    "update": {"mini_batches": 2},
    "telemetry": {"rollout_groups": 2},
    "resolved": {
        "objective": {
            "half_life": 32.0,
            "influence_clip": [0.8, 1.2],
            "safety_threshold": 3.0,
            "safety_floor": 0.8,
            "clip_low": 0.2,
            "clip_high": 0.28,
            "dual_clip": 10.0,
            "max_dual_clipped_tokens": 1,
        }
    },
}
PLAIN = {1.0: [0.01, -0.02, 0.03], -1.0: [-0.01, 0.02]}  # log-ratios by advantage


def group(
    step: int,
    problem: str = "sums/1",
    mini_batch: int = 1,
    log_ratios: dict[float, list[float]] = PLAIN,
    trained: bool = True,
    **changes: Any,
) -> list[dict[str, Any]]:
    """One response for each advantage, right where it is positive."""
    return [
        {
            "step": step,
            "problem": problem,
            "prompt": f"{problem} = ",
            "response": " ".join(tokens := [f"t{i}" for i in range(len(values))]),
            "tokens": tokens,
            "truncated": not trained,
            "expected": "7",
            "answer": "7" if advantage > 0 else None,
            "outcome": "correct" if advantage > 0 else "no_answer",
            "reason": None,
            "reward": advantage,
            "advantage": advantage,
            "mini_batch": mini_batch,
            **credit(advantage, values if mini_batch else [0.0] * len(values), trained),
            **changes,
        }
        for advantage, values in log_ratios.items()
    ]


def credit(advantage: float, log_ratio: list[float], trained: bool) -> dict[str, Any]:
    logprobs = torch.tensor([log_ratio], dtype=torch.float64)
    inputs = LossInputs(
        logprobs=logprobs,
        old_logprobs=torch.zeros_like(logprobs),
        advantages=torch.tensor([advantage], dtype=torch.float64),
        loss_mask=torch.full(logprobs.shape, trained),
    )
    return token_credit(policy_loss(inputs, CONFIG), 0)
