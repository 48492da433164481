"""Sections of gpu_check.py about the decode engine: its bits, its speed, and the trainer beside it."""

import json
import os
import statistics
import subprocess
import tempfile
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from device import DEVICE, SMALL, WORDS, free_memory, milliseconds, qwen2_05b, seconds
from gpu_training import top_kernels
from transformers import PreTrainedModel

from fipo.data.problem import Problem
from fipo.rollout.engine import recorder
from fipo.rollout.engine.select import make_sampler
from fipo.rollout.engine.slot_engine import SlotEngine
from fipo.rollout.groups import Group
from fipo.rollout.sampler import Response, SamplingParams
from fipo.training.passes.logprobs import old_scores
from fipo.training.passes.packing import pack

GAP = 0.05  # nats in bfloat16, of a model far from uniform
PLAIN = SamplingParams(temperature=1.0, max_tokens=48)
CUT = SamplingParams(temperature=0.7, top_p=0.7, top_k=50, max_tokens=48)
STOPS = tuple(range(WORDS // 2, WORDS // 2 + max(1, WORDS // 256)))  # lengths about geometric, with a mean near 256
SETTINGS = (
    ((8, 16, ()), (8, 16, STOPS)) if SMALL else ((128, 256, ()), (512, 256, ()), (128, 2048, ()), (512, 1024, STOPS))
)


def prompts_of(count: int, length: int = 4) -> list[list[int]]:
    return [[2 + (31 * i + j) % (WORDS - 2) for j in range(length + i % 3)] for i in range(count)]


def engine(_: Namespace) -> dict[str, Any]:
    """Recorded steps give the bits of eager ones, twice the same, and see weights that changed in place."""
    notes: list[str] = []
    model = qwen2_05b()
    sampler = make_sampler(model, stop_tokens=[], slots=8, longest=256, params=CUT, say=notes.append)
    found: dict[str, Any] = {"sampler": type(sampler).__name__, "notes": notes}
    prompts = prompts_of(8)
    for name, params in (("plain", PLAIN), ("cut", CUT)):
        one = SlotEngine(model, stop_tokens=[], slots=8, say=notes.append)
        one.sample(prompts, params, 0)
        recorded = one.sample(prompts, params, 1)
        found[name] = {
            "recorded_steps": len(one._recorder.replays),
            "again_equal": one.sample(prompts, params, 1) == recorded,
            "eager_equal": _eager(model, prompts, params) == recorded,
        }
    before = one.sample(prompts, PLAIN, 1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1.5)
    after = one.sample(prompts, PLAIN, 1)
    found["follows_weights"] = after == _eager(model, prompts, PLAIN) and after != before
    right = all(found[name]["again_equal"] and found[name]["eager_equal"] for name in ("plain", "cut"))
    assert right and found["follows_weights"], found
    assert all(found[name]["recorded_steps"] for name in ("plain", "cut")), found
    return found


def _eager(model: PreTrainedModel, prompts: Sequence[list[int]], params: SamplingParams) -> list[Response]:
    known, recorder.EAGER_STEPS = recorder.EAGER_STEPS, 10**9
    try:
        return SlotEngine(model, stop_tokens=[], slots=8).sample(prompts, params, 1)
    finally:
        recorder.EAGER_STEPS = known


def decode(options: Namespace) -> dict[str, Any]:
    """Tokens per second, prompts of 128 tokens; the first call, which records, is not counted."""
    found: dict[str, Any] = {}
    if options.vllm:  # first, while the device is free
        found["vllm"] = _vllm(options.vllm)
    model = qwen2_05b()
    for rows, tokens, stops in SETTINGS:
        free_memory()
        one = SlotEngine(model, stop_tokens=stops, slots=rows)
        prompts = prompts_of((2 if stops else 1) * rows, 4 if SMALL else 128)
        params = SamplingParams(temperature=1.0, max_tokens=tokens)
        first = seconds(lambda e=one, p=prompts, s=params: e.sample(p, s, 0))
        times, rates = [], []
        for seed in range(1, 3):
            lengths: list[int] = []
            times.append(seconds(lambda e=one, p=prompts, s=params, n=seed, out=lengths: _lengths(e, p, s, n, out)))
            rates.append(sum(lengths) / times[-1])
        name = f"{len(prompts)} prompts, {rows} slots, {'up to ' if stops else ''}{tokens} tokens"
        found[name] = {"tokens_per_s": statistics.median(rates), "first_s": first} | _recorded(one)
        del one
    return found


def _lengths(one: SlotEngine, prompts: list[list[int]], params: SamplingParams, seed: int, out: list[int]) -> None:
    out += [len(response.tokens) for response in one.sample(prompts, params, seed)]


def _recorded(one: SlotEngine) -> dict[str, Any]:
    """What the largest recorded step costs, and its kernels."""
    kept = one._recorder
    found = {"recorded_steps": len(kept.replays), "cache_gib": kept.cache.storage.nbytes / 2**30}
    _, recorded = max(kept.replays.items(), key=lambda item: (item[0].rows, item[0].length))

    def replay() -> None:
        kept.state.turn.zero_()  # there is room for the steps between two looks of the host, and no more
        recorded()

    with torch.inference_mode():
        found["step_ms"] = milliseconds(replay)
        if SMALL:
            return found
        torch.cuda.set_sync_debug_mode("error")
        try:
            replay()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiled:
            replay()
            torch.cuda.synchronize()
    return found | {"kernels": top_kernels(profiled, 6)}


def _vllm(python: str) -> dict[str, Any]:
    program = Path(__file__).with_name("rollout_gpu.py")
    with tempfile.TemporaryDirectory() as folder:
        qwen2_05b().save_pretrained(folder)
        free_memory()
        own = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}  # it has packages of its own
        command = [python, program, "--vllm-side", folder, "--repeats", "1"]
        subprocess.run(command, env=own, check=True, timeout=240)
        result: dict[str, Any] = json.loads(Path(folder, "vllm.json").read_text())
    return result


def gap(_: Namespace) -> dict[str, Any]:
    """The log-probs that the sampler reports beside those of the trainer: same weights, same tokens, nats."""
    model = qwen2_05b()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.mul_(2.0)  # far from uniform
    size, groups = (4, 2) if SMALL else (8, 8)
    prompts = [prompt for prompt in prompts_of(groups, 20) for _ in range(size)]
    responses = SlotEngine(model, stop_tokens=[3], slots=64).sample(prompts, PLAIN, 0)
    made = [
        Group(
            problem=Problem(id=str(i), prompt="", answer="", source=""),
            prompt_tokens=prompts[size * i],
            responses=responses[size * i : size * (i + 1)],
            texts=[],
            grades=[],
        )
        for i in range(groups)
    ]
    [packs] = pack(
        made,
        torch.zeros(groups, size),
        mini_batches=1,
        tokens_per_micro_batch=4096,
        mask_truncated=False,
        layout="packed",
        device=DEVICE,
    )
    scores = old_scores(model, packs, 1.0, lambda: None)
    off = torch.cat([(s.logprobs - p.rollout_logprobs)[p.loss_mask].abs() for s, p in zip(scores, packs, strict=True)])
    found = {"mean": float(off.mean()), "largest": float(off.max()), "tokens": off.numel()}
    assert found["mean"] < GAP, found
    return found


SECTIONS = {"engine": engine, "decode": decode, "gap": gap}
