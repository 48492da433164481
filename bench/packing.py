"""Forward and backward pass of a mini-batch on the CPU: sequences packed into one row beside padded rows.

    python bench/packing.py [--repeats 5]

CPU seconds of one thread for all micro-batches of a mini-batch, taken in turns, medians; rows of similar length are
padded together. Gradients are the same (tests/training/test_update.py).
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import get_args

import torch
from machine import add_save, machine, save
from small_model import small_model
from transformers import PreTrainedModel

from fipo.data.problem import Problem
from fipo.grading.grade import Grade
from fipo.models.loading import load
from fipo.rollout.groups import Group
from fipo.rollout.sampler import Response
from fipo.training.passes.logprobs import score
from fipo.training.passes.packing import Layout, pack


def random_groups(count: int, prompt: int, response: Callable[[random.Random], int], words: int) -> list[Group]:
    """Groups of 8 random responses of lengths drawn by `response`."""
    rng = random.Random(0)

    def tokens(length: int) -> list[int]:
        return [rng.randrange(2, words) for _ in range(length)]

    return [
        Group(
            problem=Problem(id=str(i), prompt="", answer="", source="bench"),
            prompt_tokens=tokens(prompt),
            responses=[Response(tokens=tokens(response(rng)), logprobs=[], truncated=False) for _ in range(8)],
            texts=[""] * 8,
            grades=[Grade(outcome="correct", answer="")] * 8,
        )
        for i in range(count)
    ]


def cpu_seconds(model: PreTrainedModel, groups: list[Group], layout: Layout, budget: int) -> float:
    [packs] = pack(
        groups,
        torch.ones(len(groups), 8),
        mini_batches=1,
        tokens_per_micro_batch=budget,
        mask_truncated=False,
        layout=layout,
        device=torch.device("cpu"),
    )
    started = time.process_time()
    for one in packs:
        score(model, one, 1.0, entropy=False).logprobs.sum().backward()
    return time.process_time() - started


def measure(repeats: int) -> dict[str, dict[str, float]]:
    torch.set_num_threads(1)
    embedded, small = load("embedded")[0], small_model()
    cases = {
        "quickstart, mean 38": (
            embedded,
            random_groups(16, 12, lambda r: min(160, int(r.expovariate(1 / 38)) + 2), 16),
        ),
        "1 to 256": (small, random_groups(4, 128, lambda r: r.randint(1, 256), 512)),
        "200 to 1800": (small, random_groups(1, 128, lambda r: r.randint(200, 1800), 512)),
    }
    results = {}
    for name, (model, groups) in cases.items():
        seconds: dict[Layout, list[float]] = {layout: [] for layout in get_args(Layout)}
        for _ in range(repeats):
            for layout, taken in seconds.items():
                taken.append(cpu_seconds(model, groups, layout, 4096))
        padded, packed = (statistics.median(seconds[layout]) for layout in ("padded", "packed"))
        results[name] = {"padded_cpu_s": padded, "packed_cpu_s": packed, "ratio": padded / packed}
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="Time padded and packed micro-batches on one CPU thread.")
    parser.add_argument("--repeats", type=int, default=5)
    add_save(parser)
    options = parser.parse_args()
    results = measure(options.repeats)
    print(f"forward and backward pass, CPU seconds, medians\n{machine()}, one thread")
    print(f"{'response tokens':>20} {'padded':>8} {'packed':>8} {'ratio':>7}")
    for name, result in results.items():
        print(f"{name:>20} {result['padded_cpu_s']:>8.3f} {result['packed_cpu_s']:>8.3f} {result['ratio']:>6.2f}x")
    save("packing", results, kept=options.save)


if __name__ == "__main__":
    main()
