"""What a skipped update was fed with, so that a NaN can be looked into afterwards."""

import json
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor

from fipo.telemetry.durable import disk_errors, replace_file
from fipo.telemetry.run_directory import RunDirectory
from fipo.training.record import StepRecord


def write_anomalies(run: RunDirectory, record: StepRecord) -> list[Path]:
    """For each skipped update `anomalies/step_NNNNNN_update_I`: .safetensors with the packs, .json in words."""
    written = []
    for i, outcome in enumerate(record.outcomes):
        if not outcome.skipped or outcome.overflowed:
            continue
        with disk_errors(run.anomalies):
            run.anomalies.mkdir(exist_ok=True)
        stem = run.anomalies / f"step_{record.step:06d}_update_{i}"
        tensors, words = stem.with_suffix(".safetensors"), stem.with_suffix(".json")
        replace_file(tensors, save(_tensors(record, i)))
        replace_file(words, json.dumps(_description(record, i), indent=1).encode())
        written += [tensors, words]
    return written


def _tensors(record: StepRecord, mini_batch: int) -> dict[str, Tensor]:
    """The inputs and outcomes of each pack; log_ratio is logprobs - old_logprobs, clamped as the loss saw it."""
    tensors: dict[str, Tensor] = {}
    for j, trained in enumerate(record.outcomes[mini_batch].packs):
        pack, output = trained.pack, trained.output
        tensors |= {
            f"pack_{j}/input_ids": pack.input_ids,
            f"pack_{j}/tokens": pack.tokens,
            f"pack_{j}/before": pack.before,
            f"pack_{j}/loss_mask": pack.loss_mask,
            f"pack_{j}/advantages": pack.advantages,
            f"pack_{j}/old_logprobs": trained.old.logprobs,
            f"pack_{j}/log_ratio": output.log_ratio,
            f"pack_{j}/influence_weights": output.influence_weights,
        }
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _description(record: StepRecord, mini_batch: int) -> dict[str, object]:
    outcome = record.outcomes[mini_batch]
    packs = outcome.packs
    return {
        "step": record.step,
        "mini_batch": mini_batch,
        "learning_rate": record.learning_rate,
        "grad_norm": str(outcome.grad_norm),
        "loss_by_pack": [str(float(one.output.total)) for one in packs],
        "not_finite": {
            "old_logprobs": sum(int((~torch.isfinite(one.old.logprobs)).sum()) for one in packs),
            "log_ratio": sum(int((~torch.isfinite(one.output.log_ratio)).sum()) for one in packs),
        },
        "rollouts": [
            {
                "pack": j,
                "row": row,
                "problem": record.batch.kept[group].problem.id,
                "response": record.batch.kept[group].texts[member],
                "reward": float(record.rewards[group, member]),
            }
            for j, one in enumerate(packs)
            for row, (group, member) in enumerate(one.pack.rollouts)
        ],
    }
