"""Trainer throughput on one GPU: an update of a Qwen3-0.6B shape in bfloat16 on packed sequences.

    python bench/train_gpu.py

Random weights, float32 masters and AdamW, FIPO's loss. One sequence of 16,384 or 65,536 tokens, and 16,384 tokens in
16 sequences; log-probs and entropy, backward pass and optimizer step, as the first mini-batch of a training step does
them. Tokens per second are medians; MFU by the data sheet. Published by prime-rl for one H100 and this model: 11,896
tokens/s at 16k (11.1% MFU, 12.5 GiB), 10,147 at 65k.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from device import DEVICE, WORDS, free_memory, peak_gib, qwen3_06b, seconds
from machine import add_save, machine, save
from transformers import PreTrainedModel

from fipo.beat import no_beat
from fipo.objective import ALGORITHMS
from fipo.rollout.groups import ProblemStream
from fipo.training.passes.packing import Pack
from fipo.training.passes.recompute import recomputing
from fipo.training.passes.segments import Segment
from fipo.training.policy.mfu import compute_of
from fipo.training.policy.optimizer import MasterAdamW
from fipo.training.recipe import load_recipe
from fipo.training.trainer import Trainer
from fipo.training.update import update

QUICKSTART = Path(__file__).parent.parent / "recipe" / "quickstart.toml"
PRIME_RL = {16384: 11896, 65536: 10147}


def sequences(lengths: list[int]) -> Pack:
    """Random sequences whose every token but the first is trained on."""
    ids = torch.randint(2, WORDS, (1, sum(lengths)), device=DEVICE)
    starts = [sum(lengths[:i]) for i in range(len(lengths))]
    before = torch.cat([torch.arange(start, start + n - 1) for start, n in zip(starts, lengths, strict=True)]).to(
        DEVICE
    )
    mask = torch.zeros(len(lengths), max(lengths) - 1, dtype=torch.bool)
    for i, length in enumerate(lengths):
        mask[i, : length - 1] = True
    return Pack(
        input_ids=ids,
        segments=[Segment(length=n) for n in lengths],
        lengths=lengths,
        loss_mask=mask.to(DEVICE),
        tokens=ids[0, before + 1],
        before=before,
        advantages=torch.randn(len(lengths), device=DEVICE),
        token_advantages=None,
        rollout_logprobs=torch.zeros(mask.shape, device=DEVICE),
        rollouts=[(0, i) for i in range(len(lengths))],
    )


def trainer_of(model: PreTrainedModel, longest: int) -> Trainer:
    """What an update works with: the quickstart's recipe, and nothing to sample with."""
    return Trainer(
        recipe=load_recipe(QUICKSTART, {"rollout.max_response_tokens": str(longest)}),
        algorithm=ALGORITHMS["release_32b"],
        model=model,
        tokenizer=None,
        reference=None,
        layout="packed",
        optimizer=MasterAdamW(model, lr=1e-6, weight_decay=0.0),
        roller=None,
        stream=ProblemStream([], seed=0),
        loss_scale=None,
        compute=compute_of(model),
        control=None,
        beat=no_beat,
    )


def measure(model: PreTrainedModel, lengths: list[int], checkpointing: bool, repeats: int = 7) -> dict[str, Any]:
    trainer, pack = trainer_of(model, max(lengths)), sequences(lengths)
    with recomputing(model, checkpointing):
        times = [seconds(lambda: update(trainer, [pack], None, None)) for _ in range(repeats)]
    median = statistics.median(times[2:])
    return {
        "tokens_per_second": sum(lengths) / median,
        "mfu": trainer.compute.training_flops(pack.work, []) / median / trainer.compute.peak,
        "peak_gib": peak_gib(),
        "first_s": times[0],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Time updates on one GPU.")
    add_save(parser)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("bench/train_gpu.py needs a CUDA device, found none", file=sys.stderr)
        return 2
    results = {}
    print(f"updates of a Qwen3-0.6B shape, bfloat16\n{torch.cuda.get_device_name()}, {machine()}")
    print(f"{'sequences':>12} {'tokens/s':>10} {'MFU':>7} {'peak GiB':>9} {'prime-rl':>9}")
    for lengths, checkpointing in (([16384], False), ([1024] * 16, False), ([16384], True), ([65536], True)):
        free_memory()
        result = measure(qwen3_06b(), lengths, checkpointing)
        results[f"{len(lengths)}x{lengths[0]}{' recomputed' if checkpointing else ''}"] = result
        shape = f"{len(lengths)} x {lengths[0]}{'*' if checkpointing else ' '}"
        rate = result["tokens_per_second"]
        print(
            f"{shape:>12} {rate:>10,.0f} {result['mfu']:>7.1%} {result['peak_gib']:>9.1f} "
            f"{rate / PRIME_RL[sum(lengths)]:>8.2f}x"
        )
        save("train_gpu", results, kept=options.save)
    print("* activations computed again in the backward pass")
    return 0


if __name__ == "__main__":
    sys.exit(main())
