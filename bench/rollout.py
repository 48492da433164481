"""Generation on the CPU: our slot engine beside transformers' `generate`, with the same weights and prompts.

    python bench/rollout.py [--repeats 5]

A random Qwen3 of 0.92M parameters, 16 sequences at a time, prompts of 128 tokens, up to 256 new ones, one thread.
- fixed: 16 prompts, no stop token, so that every response has 256 tokens.
- ragged: 64 prompts and 8 stop tokens of 512, so that lengths are about geometric with a mean near 60. `generate`
  takes four batches of 16 and each lasts as long as its longest response; the engine refills its 16 slots.
Both sample at temperature 1; `generate` does not report log-probs, the engine does. CPU seconds, taken in turns, other
random numbers each time, after a call in which the engine records its steps; ratios are of seconds per token, medians
over the repeats.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from machine import add_save, machine, save
from small_model import RESPONSE_TOKENS, WORDS, random_prompts, small_model
from transformers import PreTrainedModel

from fipo.rollout.engine.slot_engine import SlotEngine
from fipo.rollout.sampler import SamplingParams

SLOTS = 16
PARAMS = SamplingParams(temperature=1.0, max_tokens=RESPONSE_TOKENS)
STOPS = tuple(range(WORDS - 8, WORDS))


def cpu_seconds_per_token(sample: Callable[[], int]) -> float:
    start = time.process_time()
    tokens = sample()
    return (time.process_time() - start) / tokens


def generate(model: PreTrainedModel, prompts: Sequence[list[int]], stops: Sequence[int], seed: int) -> int:
    """The tokens up to and with the first stop token, by transformers' own sampling."""
    torch.manual_seed(seed)
    tokens = 0
    for start in range(0, len(prompts), SLOTS):
        batch = torch.tensor(prompts[start : start + SLOTS])
        out = model.generate(
            batch,
            attention_mask=torch.ones_like(batch),
            max_new_tokens=RESPONSE_TOKENS,
            do_sample=True,
            top_k=0,
            eos_token_id=list(stops) or None,
            pad_token_id=0,
        )[:, batch.shape[1] :]
        stopped = torch.isin(out, torch.tensor(list(stops), dtype=torch.long))
        lengths = torch.where(stopped.any(1), stopped.int().argmax(1) + 1, out.shape[1])
        tokens += int(lengths.sum())
    return tokens


def decode(engine: SlotEngine, prompts: Sequence[list[int]], seed: int) -> int:
    return sum(len(response.tokens) for response in engine.sample(prompts, PARAMS, seed))


def compare(
    model: PreTrainedModel, prompts: Sequence[list[int]], stops: Sequence[int], repeats: int
) -> dict[str, float]:
    engine = SlotEngine(model, stop_tokens=stops, slots=SLOTS)
    decode(engine, prompts, seed=repeats)  # what is done once in a run is not counted
    ours, theirs = [], []
    for seed in range(repeats):
        theirs.append(cpu_seconds_per_token(lambda seed=seed: generate(model, prompts, stops, seed)))
        ours.append(cpu_seconds_per_token(lambda seed=seed: decode(engine, prompts, seed)))
    return {
        "engine_tokens_per_cpu_s": 1 / statistics.median(ours),
        "generate_tokens_per_cpu_s": 1 / statistics.median(theirs),
        "ratio": statistics.median(theirs) / statistics.median(ours),
        "smallest_ratio": min(a / b for a, b in zip(theirs, ours, strict=True)),
    }


def measure(repeats: int) -> dict[str, dict[str, float]]:
    torch.set_num_threads(1)
    model = small_model()
    return {
        "fixed": compare(model, random_prompts(SLOTS), (), repeats),
        "ragged": compare(model, random_prompts(4 * SLOTS), STOPS, repeats),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time generation on one CPU thread.")
    parser.add_argument("--repeats", type=int, default=5)
    add_save(parser)
    options = parser.parse_args()
    results = measure(options.repeats)
    print(f"generation, tokens per CPU second, medians\n{machine()}, one thread")
    print(f"{'lengths':>8} {'generate':>10} {'engine':>10} {'ratio':>7} {'smallest':>9}")
    for name, result in results.items():
        print(
            f"{name:>8} {result['generate_tokens_per_cpu_s']:>10.0f} {result['engine_tokens_per_cpu_s']:>10.0f} "
            f"{result['ratio']:>6.2f}x {result['smallest_ratio']:>8.2f}x"
        )
    save("rollout", results, kept=options.save)


if __name__ == "__main__":
    main()
