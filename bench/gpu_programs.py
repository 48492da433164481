"""Sections of gpu_check.py that are programs of their own: rounding, a run with resume, the tests, the sanitizer."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

from device import DEVICE, SMALL
from safetensors.torch import load_file

ROOT = Path(__file__).resolve().parents[1]
SHORT = {  # the quickstart, for a few seconds
    "rollout.groups": "4",
    "rollout.group_size": "4",
    "rollout.generation_batch": "8",
    "rollout.max_response_tokens": "32",
    "update.mini_batches": "2",
    "update.schedule": "constant",  # of a run that is made longer
    "eval.every": "100",
    "eval.samples": "1",
    "data.eval.count": "8",
    "checkpoint.every": "1",
}
OWN = ("time/", "eval/")  # what differs between the two: a run evaluates after its last step


def started(*command: object, timeout: float, more: dict[str, str] | None = None) -> str:
    """What a program printed. Raises RuntimeError with the end of it if it failed."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=ROOT,
        env=os.environ | (more or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {(done.stdout + done.stderr)[-1500:]}")
    return done.stdout + done.stderr


def precision(_: Namespace) -> dict[str, Any]:
    """bench/precision.py on the embedded model, on this device."""
    sizes = ["--tokens", 16, "--responses", 3, "--mini-batches", 2] if SMALL else ["--mini-batches", 2, 4, 8, 16]
    command = [sys.executable, "bench/precision.py", "embedded", "--device", DEVICE.type, *sizes]
    rates = ["--learning-rate", "5e-6"]
    return {"table": started(*command, *rates, "--name", "gpu_check_precision", timeout=150).splitlines()}


def resume(_: Namespace) -> dict[str, Any]:
    """A run of three steps, and one of two that goes on for a third: the same metrics and the same weights.

    On a GPU up to rounding, as the gradient of flash attention adds up in any order.
    """
    with tempfile.TemporaryDirectory() as folder:
        whole = _run(folder, "whole", 3)
        _run(folder, "parts", 2)
        parts = _run(folder, "parts", 3, "--resume")
        files = [Path(folder, name, "checkpoints", "step_000003", "model.safetensors") for name in ("whole", "parts")]
        same = {
            "metrics_equal": _comparable(whole) == _comparable(parts),
            "weights_equal": files[0].read_bytes() == files[1].read_bytes(),
            "largest_difference": _largest_difference(*files),
        }
    assert same["metrics_equal"] and same["weights_equal"] if SMALL else same["largest_difference"] < 1e-3, same
    shown = ("reward/mean", "policy/grad_norm", "rollout/logprob_gap/mean", "rollout/logprob_gap/max", "time/step")
    return same | {"steps": [{key: line.get(key) for key in shown} for line in whole]}


def _run(folder: str, name: str, steps: int, *more: str) -> list[dict[str, Any]]:
    settings = SHORT | {"run.folder": folder, "run.name": name, "run.device": DEVICE.type, "run.steps": str(steps)}
    words = [word for key, value in settings.items() for word in (f"--{key}", value)]
    started(sys.executable, "-m", "fipo.cli", "train", "recipe/quickstart.toml", *words, *more, timeout=150)
    lines = Path(folder, name, "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def _largest_difference(*files: Path) -> float:
    one, other = map(load_file, files)
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)


def _comparable(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in line.items() if not key.startswith(OWN)} for line in lines]


def tests(_: Namespace) -> dict[str, Any]:
    """The tests that need a GPU; without one they are skipped."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", *_marked()]
    return {"output": started(*command, timeout=180)[-1500:]}


def sanitizer(_: Namespace) -> dict[str, Any]:
    """All kernels under compute-sanitizer, which finds accesses out of bounds."""
    program = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    if SMALL or not Path(program).is_file():
        return {"skipped": "no compute-sanitizer here, or no GPU"}
    shapes = "((3, 700), (1, 1), (5, 4099))"
    small_case = "import torch; from gpu_kernels import _batch, _gradient"
    small_case += f"; [_gradient(_batch(*shape), None) for shape in {shapes}]"
    trials = "from gpu_kernels import logprobs, slots; assert logprobs.obstacle() is slots.obstacle() is None"
    code = f"import sys; sys.path.insert(0, 'bench'); {small_case}; {trials}; torch.cuda.synchronize()"
    # Each tensor in memory of its own: within a block of torch's an access beyond the end would go unseen.
    apart = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "PYTORCH_CUDA_ALLOC_CONF": ""}
    command = (program, "--error-exitcode", "1", sys.executable, "-c", code)
    return {"output": started(*command, timeout=150, more=apart)[-500:]}


def _marked() -> list[Path]:
    """Files with such a test: others may need packages that a borrowed machine lacks."""
    return [file for file in sorted((ROOT / "tests").rglob("test_*.py")) if "mark.gpu" in file.read_text()]


SECTIONS = {"precision": precision, "resume": resume, "tests": tests, "sanitizer": sanitizer}
