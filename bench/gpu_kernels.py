"""Sections of gpu_check.py about single operations: what the device can do, attention, scoring, the objective."""

import itertools
import platform
import shutil
from argparse import Namespace
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
import torch.nn.functional as F
from device import DEVICE, HALF, SMALL, WORDS, captured, free_memory, milliseconds, peak_gib, seconds
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

import fipo
from fipo.models.attention import attend
from fipo.objective import Algorithm, FIPOConfig, LossInputs, fipo_influence, fused, policy_loss
from fipo.rollout.engine import slots
from fipo.training.passes import logprobs
from fipo.training.passes.packed_attention import Geometry, packed_attention
from fipo.training.passes.segments import Segment

BYTES_PER_TOKEN = 13  # of the objective: two log-probs and a mask in, a gradient out
BYTES_PER_LOGIT = 12  # of scoring: read for the value and for the gradient, which is written
BLOCKS = ((4096, 8), (2048, 4), (8192, 8), (8192, 16))  # (words, warps) of a program of the kernels that score
PARTS = (512, 256, 1024)  # tokens of a program of the kernels of decoding
PROGRAMS = ((512, 4), (256, 1), (512, 1), (256, 2), (1024, 4))  # (tokens, warps) of a program of the kernels


def environment(_: Namespace) -> dict[str, Any]:
    compiler = shutil.which("gcc") or shutil.which("cc")
    found: dict[str, Any] = {"fipo": fipo.__version__, "python": platform.python_version(), "compiler": compiler}
    for package in ("torch", "transformers", "triton"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    if not SMALL:
        found |= {
            "gpu": torch.cuda.get_device_name(),
            "capability": torch.cuda.get_device_capability(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "cudnn_attention": torch.backends.cuda.cudnn_sdp_enabled(),
            "free_gib": torch.cuda.mem_get_info()[0] / 2**30,
            "obstacles": [fused.obstacle(), logprobs.obstacle(), slots.obstacle()],
        }
        assert not any(found["obstacles"]) and not found["cudnn_attention"], found
    return found


def ceilings(_: Namespace) -> dict[str, float]:
    size = 128 if SMALL else 8192
    a = torch.randn(size, size, device=DEVICE, dtype=HALF)
    return {
        "copy_bytes_per_s": copy_rate(),
        "half_precision_flops": 2 * size**3 / (1e-3 * milliseconds(lambda: a @ a)),
    }


def copy_rate() -> float:
    """Bytes per second, read and written together."""
    source = torch.empty(2**20 if SMALL else 2**30, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    return 2 * source.numel() / (1e-3 * milliseconds(lambda: target.copy_(source)))


def attention(_: Namespace) -> dict[str, Any]:
    """Of one token per row over a cache by each of torch's kernels and by ours, and of prompts of a new length each."""
    shapes = [(4, 2, 7, 16, 64)] if SMALL else [(128, 2, 7, 64, 384), (512, 2, 7, 64, 384), (128, 8, 2, 128, 1024)]
    found: dict[str, Any] = {}
    for rows, heads, folded, size, length in shapes:
        keys, values = torch.randn(2, rows, heads, length, size, device=DEVICE, dtype=HALF)
        query = torch.randn(rows, heads, folded, size, device=DEVICE, dtype=HALF)
        last = torch.randint(0, length, (rows, 1), device=DEVICE)
        hidden = torch.arange(length, device=DEVICE) > last
        mask = torch.zeros(rows, length, device=DEVICE, dtype=HALF).masked_fill_(hidden, float("-inf"))[:, None, None]
        exact = ((query.double() @ keys.double().mT) / size**0.5 + mask.double()).softmax(-1) @ values.double()
        shape = f"{rows} rows, {heads} x {folded} heads of {size}, {length} tokens"
        found[shape] = {
            kernel.name: _tried(
                kernel,
                lambda q=query, k=keys, v=values, m=mask: F.scaled_dot_product_attention(q, k, v, attn_mask=m),
                exact,
            )
            for kernel in (SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH)
        } | _ragged(query, keys, values, last[:, 0], exact)
        unused = ("CUDNN_ATTENTION", "own_floor_ms")
        errors = {name: one.get("relative_error", 0.0) for name, one in found[shape].items() if name not in unused}
        assert max(errors.values()) < 0.02, errors
    new = []
    for length in (97, 131, 211, 305):
        query, key = (torch.randn(4, heads, length, 64, device=DEVICE, dtype=HALF) for heads in (14, 2))
        new.append(1e3 * seconds(lambda q=query, k=key: attend(q, k, k, mask=None, scale=None)))
    return {**found, "prompts_of_a_new_length_ms": new}


def _ragged(query: Tensor, keys: Tensor, values: Tensor, last: Tensor, exact: Tensor) -> dict[str, Any]:
    """Our kernels, which read each row as far as it goes: rows of these lengths, and all of them as long as can be."""
    if SMALL:
        return {}
    from fipo.rollout.engine import ragged_kernels

    found: dict[str, Any] = {}
    known, full = ragged_kernels.PART, torch.full_like(last, keys.shape[2] - 1)
    for ragged_kernels.PART in PARTS:
        run = partial(ragged_kernels.attend_to_own, query, keys, values, scale=query.shape[-1] ** -0.5)
        found[f"own kernels, {ragged_kernels.PART} tokens"] = {
            "graph_ms": milliseconds(captured(lambda r=run: r(last))),
            "full_graph_ms": milliseconds(captured(lambda r=run: r(full))),
            "relative_error": _error(run(last), exact),
        }
    ragged_kernels.PART = known
    read = 2 * keys.element_size() * keys.shape[1] * keys.shape[3] * int((last + 1).sum())
    return found | {"own_floor_ms": 1e3 * read / copy_rate()}


def _tried(kernel: SDPBackend, run: Callable[[], Tensor], exact: Tensor) -> dict[str, Any]:
    try:
        with sdpa_kernel(kernel):
            first = 1e3 * seconds(run)
            return {"first_ms": first, "ms": milliseconds(run), "relative_error": _error(run(), exact)}
    except RuntimeError as failure:
        return {"refused": str(failure).split("\n")[0][:100]}


def _error(found: Tensor, exact: Tensor) -> float:
    return float((found.double() - exact.double()).norm() / exact.double().norm())


def packed(_: Namespace) -> dict[str, Any]:
    """Output and gradients of attention over segments with ancestors in half precision, against those in float32."""
    lengths, parents = [150, 1, 700, 33, 257, 64], [None, None, None, 2, 3, 2]
    if SMALL:
        lengths = [n // 10 + 1 for n in lengths]
    segments = [Segment(length=n, parent=parent) for n, parent in zip(lengths, parents, strict=True)]
    found = {}
    for size, (heads, shared) in itertools.product((64, 128, 256), ((8, 2), (4, 4))):
        base = [torch.randn(1, n, sum(lengths), size, device=DEVICE).to(HALF) for n in (heads, shared, shared)]
        results = []
        for dtype in (HALF, torch.float32):
            inputs = [x.to(dtype, copy=True).requires_grad_() for x in base]
            geometry = Geometry(segments, DEVICE)
            mixed, _unused = packed_attention(torch.nn.Module(), *inputs, None, scaling=size**-0.5, geometry=geometry)
            mixed.float().square().sum().backward()
            results.append([mixed.detach(), *(x.grad for x in inputs)])
        errors = [_error(half, exact) for half, exact in zip(*results, strict=True)]
        assert max(errors) < 0.02, f"size {size}, heads {heads}/{shared}: {errors}"
        found[f"size {size}, heads {heads}/{shared}"] = errors
    return {"relative_errors_of_output_and_gradients": found}


def scoring(_: Namespace) -> dict[str, Any]:
    """Milliseconds and peak of log-probs, entropies and the gradient of a chunk of logits, by both ways."""
    rows = 8 if SMALL else logprobs.CHUNK["cuda"] // WORDS
    logits = (4 * torch.randn(rows, WORDS, device=DEVICE)).requires_grad_()
    tokens = torch.randint(WORDS, (rows,), device=DEVICE)
    equations = partial(logprobs._scores, with_entropy=True, entropy_graph=False)
    expected = _scored(equations, logits, tokens)
    floor = 1e3 * BYTES_PER_LOGIT * logits.numel() / copy_rate()
    found: dict[str, Any] = {"floor_ms": floor, "equations": _timed_scoring(equations, logits, tokens, expected)}
    if SMALL:
        return found
    from fipo.training.passes import logprob_kernels as kernels

    known = kernels.BLOCK, kernels.WARPS
    for kernels.BLOCK, kernels.WARPS in BLOCKS:
        name = f"{kernels.BLOCK} words, {kernels.WARPS} warps"
        found[name] = _timed_scoring(kernels.token_scores, logits, tokens, expected)
    kernels.BLOCK, kernels.WARPS = known
    return found


def _timed_scoring(way: Callable[..., Any], logits: Tensor, tokens: Tensor, expected: Tensor) -> dict[str, Any]:
    free_memory()
    off = float((_scored(way, logits, tokens) - expected).abs().max())
    peak = peak_gib()
    assert off < 1e-4, off
    return {"ms": milliseconds(lambda: _scored(way, logits, tokens)), "peak_gib": peak, "largest_difference": off}


def _scored(way: Callable[..., Any], logits: Tensor, tokens: Tensor) -> Tensor:
    return torch.autograd.grad(way(logits, tokens, 0.9)[0].sum(), logits)[0]


def objective(_: Namespace) -> dict[str, Any]:
    """Milliseconds of loss and gradient, by graph too, beside the floor, for several sizes of a program."""
    rate = copy_rate()
    found: dict[str, Any] = {}
    known = fused.CHUNK, fused.WARPS
    for rows, length in [(4, 256)] if SMALL else [(8, 20480), (256, 20480)]:
        inputs = _batch(rows, length)
        assert SMALL or fused.applies(inputs, Algorithm(config=FIPOConfig.release_32b())), fused.obstacle()
        expected = _gradient(inputs, fipo_influence)
        found[f"{rows} x {length}"] = one = {
            "floor_ms": 1e3 * BYTES_PER_TOKEN * rows * length / rate,
            "equations_ms": milliseconds(lambda i=inputs: _gradient(i, fipo_influence)),
        }
        for fused.CHUNK, fused.WARPS in PROGRAMS[:1] if SMALL else PROGRAMS:
            graph = captured(lambda i=inputs: _gradient(i, None))
            off = float((_gradient(inputs, None) - expected).abs().max() / expected.abs().max())
            assert off < 1e-3, off
            one[f"{fused.CHUNK} tokens, {fused.WARPS} warps"] = {
                "ms": milliseconds(lambda i=inputs: _gradient(i, None)),
                "graph_ms": milliseconds(graph),
                "largest_difference": off,
            }
        fused.CHUNK, fused.WARPS = known
    return found


def _batch(rows: int, length: int) -> LossInputs:
    old = -torch.rand(rows, length, device=DEVICE)
    return LossInputs(
        logprobs=(old + 0.05 * torch.randn_like(old)).requires_grad_(),
        old_logprobs=old,
        advantages=torch.randn(rows, device=DEVICE),
        loss_mask=torch.arange(length, device=DEVICE) < length * (0.5 + 0.5 * torch.rand(rows, 1, device=DEVICE)),
    )


def _gradient(inputs: LossInputs, influence: Any) -> Tensor:
    loss = policy_loss(inputs, FIPOConfig.release_32b(), influence=influence).loss
    return torch.autograd.grad(loss, inputs.logprobs)[0]


SECTIONS = {
    "environment": environment,
    "ceilings": ceilings,
    "attention": attention,
    "packed": packed,
    "scoring": scoring,
    "objective": objective,
}
