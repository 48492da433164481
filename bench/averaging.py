"""How a run averages over tokens: row-weighted means of micro-batch means, as the released code has it, or exactly.

python bench/averaging.py [--model PATH] [--batches 10] [--out FILE]

The released code gives each micro-batch the mean over its tokens, weighs it by its rows / the rows of the rank, and the
ranks average. The exact gradient is the sum over all tokens of all ranks / their number. Here: policy gradients of the
model for responses whose lengths are log-normal, in micro-batches of a bounded number of tokens, largest response first
into the lightest one; cosine and norm ratio of the first to the second.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fipo.data.made.signed_sums import signed_sums
from fipo.models.loading import load
from fipo.objective import group_advantages

MEDIAN, LONGEST = 48, 384  # tokens of a response
BUDGET = 512  # tokens of a micro-batch
ROWS, GROUP = 32, 8  # of a mini-batch, all ranks together
Row = tuple[int, Tensor]  # tokens, and the gradient of the sum over them


def lengths_of(spread: float, generator: torch.Generator) -> list[int]:
    """Of a mini-batch: log-normal with this sd of the logarithm, 1 to LONGEST."""
    drawn = torch.exp(math.log(MEDIAN) + spread * torch.randn(ROWS, generator=generator))
    return drawn.round().clamp(1, LONGEST).int().tolist()


def advantages_of(generator: torch.Generator) -> list[float]:
    """Groups of GROUP responses, each right or wrong."""
    right = torch.rand(ROWS // GROUP, GROUP, generator=generator) < 0.5
    return group_advantages(right.float()).flatten().tolist()


def rows_of(model: Any, lengths: list[int], advantages: list[float], prompt: Tensor) -> list[Row]:
    """Responses that the model samples, cut at their lengths, with their policy gradients."""
    stop = model.generation_config.eos_token_id
    tokens = model.generate(
        prompt.expand(ROWS, -1), do_sample=True, top_k=0, max_new_tokens=max(lengths), suppress_tokens=[stop]
    )
    rows = []
    for row, length, advantage in zip(tokens, lengths, advantages, strict=True):
        end = prompt.shape[1] + length
        scores = torch.log_softmax(model(input_ids=row[None, : end - 1]).logits.float(), dim=-1)
        chosen = scores[0].gather(1, row[1:end, None])[prompt.shape[1] - 1 :]
        gradients = torch.autograd.grad(-advantage * chosen.sum(), list(model.parameters()))
        rows.append((length, torch.cat([gradient.flatten() for gradient in gradients])))
    return rows


def micro_batches(rows: list[Row], budget: int) -> list[list[Row]]:
    """As few as the budget of tokens allows, each with about as many tokens as the others."""
    count = -(-sum(length for length, _ in rows) // budget)
    packs: list[list[Row]] = [[] for _ in range(count)]
    for row in sorted(rows, key=lambda row: -row[0]):
        min(packs, key=lambda pack: sum(length for length, _ in pack)).append(row)
    return [pack for pack in packs if pack]


def mean_of(rows: list[Row]) -> Tensor:
    """Over their tokens."""
    return torch.stack([gradient for _, gradient in rows]).sum(0) / sum(length for length, _ in rows)


def released(rows: list[Row], ranks: int, budget: int) -> Tensor:
    """Row-weighted means of micro-batch means, averaged over ranks that got every `ranks`-th row."""
    shares = [rows[rank::ranks] for rank in range(ranks)]
    means = [
        torch.stack([len(pack) / len(share) * mean_of(pack) for pack in micro_batches(share, budget)]).sum(0)
        for share in shares
    ]
    return torch.stack(means).mean(0)


def compared(model: Any, prompt: Tensor, spread: float, ranks: int, batches: int) -> dict[str, float]:
    """Cosine and norm ratio to the exact gradient: lowest, mean and highest of the batches."""
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    found = []
    for _ in range(batches):
        rows = rows_of(model, lengths_of(spread, generator), advantages_of(generator), prompt)
        other, exact = released(rows, ranks, budget=BUDGET), mean_of(rows)
        cosine = torch.nn.functional.cosine_similarity(other, exact, dim=0)
        found.append((float(cosine), float(other.norm() / exact.norm())))
    cosines, norms = (torch.tensor(values) for values in zip(*found, strict=True))
    return {
        "sd_of_log_length": spread,
        "ranks": ranks,
        **{f"cosine_{name}": round(float(value), 3) for name, value in spread_of(cosines).items()},
        **{f"norm_ratio_{name}": round(float(value), 3) for name, value in spread_of(norms).items()},
    }


def spread_of(values: Tensor) -> dict[str, Tensor]:
    return {"min": values.min(), "mean": values.mean(), "max": values.max()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--batches", type=int, default=10)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    model, tokenizer = load(options.model)
    prompt = tokenizer(signed_sums("train", 1)[0].text, return_tensors="pt").input_ids
    found = []
    for spread in (0.0, 0.25, 0.5, 1.0):
        found.append(compared(model, prompt, spread, 2, options.batches))
        print(json.dumps(found[-1]), flush=True)
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
