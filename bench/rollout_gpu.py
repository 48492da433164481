"""Generation on a CUDA device: our slot engine, and vLLM with the same weights, prompts and stop tokens beside it.

    python bench/rollout_gpu.py [--repeats 3] [--vllm /path/to/python]

A random model of the shape of Qwen2-0.5B in bfloat16, prompts of 128 tokens, temperature 1; both sides return the
log-prob of each sampled token. `--vllm` names a Python with vLLM 0.22 (fipo need not be there).
- fixed: so many sequences together, no stop token, so that every response has all its tokens.
- ragged: 1024 prompts over 512 slots and a set of stop tokens which make lengths about geometric with a mean near
  256, cut at 1024.
Tokens per second of wall time, medians over the repeats. The first call, which records graphs, is given by itself.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from device import qwen2_05b
from machine import add_save, machine, save

WORDS = 151936
PROMPT_TOKENS = 128
VLLM_SLOTS = 512
STOPS = tuple(range(1000, 1000 + WORDS // 256))  # as likely as all others in a model with small random weights


@dataclass(frozen=True)
class Setting:
    prompts: int
    max_tokens: int
    stops: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        return f"{'ragged' if self.stops else 'fixed'} {self.prompts} x {self.max_tokens}"


SETTINGS = [
    Setting(32, 256),
    Setting(128, 256),
    Setting(512, 256),
    Setting(128, 2048),
    Setting(1024, 1024, STOPS),
]


def random_prompts(count: int) -> list[list[int]]:
    rng = random.Random(0)
    return [[rng.randrange(100, WORDS - 2000) for _ in range(PROMPT_TOKENS)] for _ in range(count)]


def timed(sample: Callable[[int], Sequence[int]], repeats: int) -> dict[str, float]:
    """`sample` takes a seed and gives the responses' lengths."""
    seconds, rates = [], []
    lengths: Sequence[int] = []
    for seed in range(repeats + 1):
        start = time.perf_counter()
        lengths = sample(seed)
        seconds.append(time.perf_counter() - start)
        rates.append(sum(lengths) / seconds[-1])
    return {
        "tokens_per_s": statistics.median(rates[1:]),
        "first_call_s": seconds[0],
        "mean_length": sum(lengths) / len(lengths),
    }


def measure_ours(model: Any, repeats: int) -> dict[str, dict[str, float]]:
    from fipo.rollout.engine.slot_engine import SlotEngine
    from fipo.rollout.sampler import SamplingParams

    results = {}
    for setting in SETTINGS:
        engine = SlotEngine(model, stop_tokens=setting.stops, slots=min(setting.prompts, VLLM_SLOTS))
        params = SamplingParams(temperature=1.0, max_tokens=setting.max_tokens)
        prompts = random_prompts(setting.prompts)
        results[setting.name] = timed(
            lambda seed, engine=engine, params=params, prompts=prompts: [
                len(response.tokens) for response in engine.sample(prompts, params, seed)
            ],
            repeats,
        )
    return results


def measure_vllm(model_path: str, repeats: int) -> dict[str, dict[str, float]]:
    """Runs in vLLM's own environment."""
    from vllm import LLM, SamplingParams

    llm = LLM(
        model=model_path,
        skip_tokenizer_init=True,
        dtype="bfloat16",
        max_model_len=PROMPT_TOKENS + max(setting.max_tokens for setting in SETTINGS),
        max_num_seqs=VLLM_SLOTS,
        enable_prefix_caching=False,  # the repeats would find their prompts read
    )

    def lengths(setting: Setting) -> list[int]:
        params = SamplingParams(
            temperature=1.0,
            max_tokens=setting.max_tokens,
            ignore_eos=True,
            stop_token_ids=list(setting.stops),
            logprobs=0,
            detokenize=False,
        )
        prompts = [{"prompt_token_ids": prompt} for prompt in random_prompts(setting.prompts)]
        return [len(out.outputs[0].token_ids) for out in llm.generate(prompts, params, use_tqdm=False)]

    return {setting.name: timed(lambda _, setting=setting: lengths(setting), repeats) for setting in SETTINGS}


def run_vllm(python: str, model_path: str, repeats: int) -> dict[str, dict[str, float]]:
    command = [python, __file__, "--vllm-side", model_path, "--repeats", str(repeats)]
    subprocess.run(command, check=True)
    results: dict[str, dict[str, float]] = json.loads((Path(model_path) / "vllm.json").read_text())
    return results


def report(ours: dict[str, dict[str, float]], theirs: dict[str, dict[str, float]], *, kept: bool) -> None:
    device = torch.cuda.get_device_name()
    print(f"generation, tokens per second, medians\n{device}, {machine()}")
    print(f"{'setting':>20} {'mean length':>12} {'engine':>10} {'first call':>11} {'vLLM':>10} {'ratio':>7}")
    for name, result in ours.items():
        rate = result["tokens_per_s"]
        line = f"{name:>20} {result['mean_length']:>12.0f} {rate:>10.0f} {result['first_call_s']:>10.1f}s"
        if name in theirs:
            other = theirs[name]["tokens_per_s"]
            line += f" {other:>10.0f} {rate / other:>6.2f}x"
        print(line)
    save("rollout_gpu", {"device": device, "engine": ours, "vllm": theirs}, kept=kept)


def main() -> int:
    parser = argparse.ArgumentParser(description="Time generation on a CUDA device.")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--vllm", help="a Python in whose environment vLLM 0.22 is")
    parser.add_argument("--vllm-side", help=argparse.SUPPRESS)
    add_save(parser)
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("bench/rollout_gpu.py needs a CUDA device that torch sees, found none")
        return 2
    if arguments.vllm_side:
        results = measure_vllm(arguments.vllm_side, arguments.repeats)
        (Path(arguments.vllm_side) / "vllm.json").write_text(json.dumps(results))
        return 0
    model = qwen2_05b()
    theirs = {}
    if arguments.vllm:  # first, while the device is free
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            theirs = run_vllm(arguments.vllm, folder, arguments.repeats)
    report(measure_ours(model, arguments.repeats), theirs, kept=arguments.save)
    return 0


if __name__ == "__main__":
    sys.exit(main())
