"""The real verl trainer with Ray on this machine's CPU."""

import json
import math
import os
import subprocess
import sys
import time

import pytest

pytest.importorskip("verl", reason="verl is not installed here; make test-verl has it")

import torch

from fipo.models.loading import load

MINUTES = 15  # two cores that others use, too; three when alone


def rehearse(folder, *overrides, ranks=1):
    command = [sys.executable, "-W", "ignore", "-m", "fipo.integrations.verl.rehearsal"]
    done = subprocess.run(
        [*command, "--folder", str(folder), "--ranks", str(ranks), *overrides],
        cwd=folder,
        env={**os.environ, "RAY_worker_niceness": "0"},
        capture_output=True,
        text=True,
        timeout=60 * MINUTES,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def steps(path):
    return {entry["step"]: entry["data"] for entry in map(json.loads, path.read_text().splitlines())}


def check_that_it_merges(folder):
    """By the command of docs/verl.md, into a model folder with the trained weights, which the merger rounds."""
    actor = folder / "checkpoints" / "global_step_1" / "actor"
    command = [sys.executable, "-W", "ignore", "-m", "verl.model_merger", "merge", "--backend", "fsdp"]
    target = folder / "trained"
    subprocess.run([*command, "--local_dir", str(actor), "--target_dir", str(target)], check=True, timeout=300)
    model, _ = load(str(target))
    before, _ = load(str(folder / "model"))
    shard = torch.load(actor / "model_world_size_1_rank_0.pt", weights_only=False)
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, shard[name].to_local().bfloat16().float()), name
    assert any((a != b).any() for a, b in zip(model.parameters(), before.parameters(), strict=True))


@pytest.mark.slow
def test_a_step_on_one_rank_and_a_resumed_one_leave_metrics_credit_and_a_checkpoint(tmp_path):
    loss = "actor_rollout_ref.actor.policy_loss"
    job = [
        f"+{loss}.credit_sequences=2",
        f"+{loss}.credit_dir={tmp_path / 'credit'}",
        f"+{loss}.denominator=kept",
        "actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=16",
        "trainer.save_freq=1",
        "trainer.test_freq=1",
    ]
    began = time.monotonic()
    printed = rehearse(tmp_path, *job, "trainer.total_training_steps=1")
    print(f"one step: {time.monotonic() - began:.0f} s")
    assert "rehearsal: actor_rollout_ref.model.path=" in printed
    metrics = steps(tmp_path / "checkpoints" / "metrics_001.jsonl")
    assert set(metrics) == {0, 1}
    assert "val-core/signed_sums/acc/mean@1" in metrics[0] and "val-core/signed_sums/acc/mean@1" in metrics[1]

    step = metrics[1]
    assert step["training/rollout_probs_diff_max"] < 1e-4
    assert step["actor/rollout/logprob_gap/mean"] <= step["actor/rollout/logprob_gap/max"] < 1e-4
    assert step["actor/grad_norm"] > 0
    assert step["actor/fipo/influence_weight/min"] >= 1.0
    assert 1.0 < step["actor/fipo/influence_weight/mean"] <= step["actor/fipo/influence_weight/max"] <= 1.2 + 1e-6
    assert all(math.isfinite(value) for key, value in step.items() if key.startswith("actor/"))

    lines = [json.loads(line) for line in (tmp_path / "credit" / "step_000001.jsonl").read_text().splitlines()]
    assert [line["mini_batch"] for line in lines] == [0, 0, 1, 1]
    assert all(set(line["log_ratio"]) == {0.0} for line in lines[:2])  # the first mini-batch: bit for bit
    assert any(any(line["log_ratio"]) for line in lines[2:])
    assert all(len(line["tokens"]) == len(line["influence_weight"]) for line in lines)

    assert (tmp_path / "checkpoints" / "global_step_1" / "actor").is_dir()
    check_that_it_merges(tmp_path)
    rehearse(tmp_path, *job, "trainer.total_training_steps=2", "trainer.val_before_train=False")
    assert set(steps(tmp_path / "checkpoints" / "metrics_002.jsonl")) == {2}
