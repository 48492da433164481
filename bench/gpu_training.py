"""Section of gpu_check.py: updates as a run makes them."""

import warnings
from argparse import Namespace
from typing import Any

import torch
from device import SMALL, free_memory, qwen3_06b
from train_gpu import measure, sequences, trainer_of

from fipo.training.passes.layout import layout_of
from fipo.training.update import update

TOKENS = 24 if SMALL else 1024
SETTINGS = (  # lengths of the sequences, activations computed again
    ([TOKENS] * 16, False),
    ([16 * TOKENS], False),
    ([16 * TOKENS], True),
    ([64 * TOKENS], True),
)


def updates(_: Namespace) -> dict[str, Any]:
    notes: list[str] = []
    found: dict[str, Any] = {"layout": layout_of(qwen3_06b(), notes.append, 256), "notes": notes}
    for lengths, checkpointing in SETTINGS:
        free_memory()
        name = f"{len(lengths)} x {lengths[0]}{' recomputed' if checkpointing else ''}"
        found[name] = measure(qwen3_06b(), lengths, checkpointing, repeats=4)
    free_memory()
    return found | _looks() | _kernels()


def _looks() -> dict[str, Any]:
    """How often an update waits for the device, and where."""
    model = qwen3_06b()
    trainer, pack = trainer_of(model, TOKENS), sequences([TOKENS] * 4)
    update(trainer, [pack], None, None)
    if SMALL:
        return {"waits": None}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            update(trainer, [pack], None, None)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    waits = [f"{w.filename.rpartition('/')[2]}:{w.lineno}" for w in caught if "synchronizing" in str(w.message)]
    return {"waits": len(waits), "waits_at": sorted(set(waits))}


def _kernels() -> dict[str, Any]:
    """The operations that take the device's time, of one update of 16 sequences."""
    if SMALL:
        return {"kernels": None}
    model = qwen3_06b()
    trainer, pack = trainer_of(model, TOKENS), sequences([TOKENS] * 16)
    update(trainer, [pack], None, None)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiled:
        update(trainer, [pack], None, None)
        torch.cuda.synchronize()
    return {"kernels": top_kernels(profiled)}


def top_kernels(profiled: Any, count: int = 12) -> list[tuple[str, int, float]]:
    """(name, calls, milliseconds), the whole first."""
    kernels = profiled.key_averages()
    ordered = sorted(kernels, key=lambda kernel: -kernel.self_device_time_total)
    whole = ("all", sum(k.count for k in kernels), sum(k.self_device_time_total for k in kernels) / 1e3)
    return [whole, *((k.key[:60], k.count, k.self_device_time_total / 1e3) for k in ordered[:count])]


SECTIONS = {"updates": updates}
