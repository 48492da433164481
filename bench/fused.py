"""The policy loss on a CUDA device, forward and backward: Triton kernels, plain torch, and Listing 1 of the paper.

    python bench/fused.py [--repeats 30] [--chunk 512 --warps 4]

float32, half-life 32, one advantage per response, ragged masks; milliseconds of the device by CUDA events, medians.
`floor` is 13 bytes per token (two log-probs and a mask in, a gradient out) at the copy rate measured in the same run.
`graph` is the same as `fused`, replayed as a CUDA graph: without the time that launching takes. `metrics` adds
`LossOutput.metrics()`. `equations` is the reference in plain torch; `listing 1` is the reference with the future KL by
the paper's chunked matrix product (bench/future_kl.py), O(T^2). --chunk and --warps try other sizes of a program of
the kernels than `fused` has. --save: to bench/results/fused.json.
Without a CUDA device it says so and exits with 2. Unmeasured on a GPU so far: bench/results has no figures of it.
"""

import argparse
import sys
from collections.abc import Callable

import torch
from device import captured, milliseconds
from future_kl import chunked_matmul
from gpu_kernels import copy_rate
from machine import add_save, machine, save
from torch import Tensor

from fipo.objective import (
    Algorithm,
    FIPOConfig,
    Influence,
    LossInputs,
    bounded_weights,
    fipo_influence,
    fused,
    participating,
    policy_loss,
)

SHAPES = ((1, 20480), (8, 20480), (64, 20480), (256, 20480), (512, 2048), (32, 65536))
BYTES_PER_TOKEN = 13
CFG = FIPOConfig.release_32b()
MIB = 2**20


def listing_1(log_ratio: Tensor, advantages: Tensor, loss_mask: Tensor, cfg: FIPOConfig) -> Tensor:
    with torch.device(log_ratio.device):
        kl = chunked_matmul(participating(log_ratio, loss_mask, cfg.dual_clip), cfg.half_life)
    return bounded_weights(kl, log_ratio, advantages, cfg)


def batch(rows: int, length: int) -> LossInputs:
    generator = torch.Generator("cuda").manual_seed(0)
    old = -torch.rand(rows, length, device="cuda", generator=generator)
    noise = 0.05 * torch.randn(rows, length, device="cuda", generator=generator)
    lengths = length * (0.5 + 0.5 * torch.rand(rows, 1, device="cuda", generator=generator))
    return LossInputs(
        logprobs=(old + noise).requires_grad_(),
        old_logprobs=old,
        advantages=torch.randn(rows, device="cuda", generator=generator),
        loss_mask=torch.arange(length, device="cuda") < lengths,
    )


def step(inputs: LossInputs, influence: Influence | None) -> Callable[[], object]:
    def run() -> object:
        return torch.autograd.grad(policy_loss(inputs, CFG, influence=influence).loss, inputs.logprobs)

    return run


def measured_step(inputs: LossInputs) -> None:
    out = policy_loss(inputs, CFG)
    torch.autograd.grad(out.loss, inputs.logprobs)
    out.metrics()


def peak_mib(run: Callable[[], object]) -> float:
    """What run allocates at once beyond what was there before."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / MIB


def measure(rows: int, length: int, rate: float, repeats: int) -> dict[str, float]:
    inputs = batch(rows, length)
    assert fused.applies(inputs, Algorithm(config=CFG)), "the kernels need triton"
    ours, equations, published = (step(inputs, influence) for influence in (None, fipo_influence, listing_1))
    result = {
        "rows": rows,
        "length": length,
        "floor_ms": 1e3 * BYTES_PER_TOKEN * rows * length / rate,
        "fused_ms": milliseconds(ours, repeats),
        "graph_ms": milliseconds(captured(ours), repeats),
        "metrics_ms": milliseconds(lambda: measured_step(inputs), repeats),
        "equations_ms": milliseconds(equations, repeats),
        "listing_1_ms": milliseconds(published, max(3, repeats // 6)),
        "fused_mib": peak_mib(ours),
        "equations_mib": peak_mib(equations),
        "listing_1_mib": peak_mib(published),
    }
    return {
        **result,
        "over_floor": result["fused_ms"] / result["floor_ms"],
        "graph_over_floor": result["graph_ms"] / result["floor_ms"],
        "equations_ratio": result["equations_ms"] / result["fused_ms"],
        "listing_1_ratio": result["listing_1_ms"] / result["fused_ms"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Time the policy loss on a CUDA device.")
    parser.add_argument("--repeats", type=int, default=30)
    parser.add_argument("--chunk", type=int, default=fused.CHUNK, help="tokens, a power of two")
    parser.add_argument("--warps", type=int, default=fused.WARPS)
    add_save(parser)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("bench/fused.py needs a CUDA device, and there is none", file=sys.stderr)
        return 2
    fused.CHUNK, fused.WARPS = options.chunk, options.warps
    rate = copy_rate()
    gpu = torch.cuda.get_device_name()
    print(f"policy loss, forward and backward, float32, half-life 32, ms; {gpu}, copies at {rate / 1e12:.2f} TB/s")
    print(machine())
    print(
        f"{'B x T':>12} {'floor':>7} {'fused':>7} {'graph':>7} {'metrics':>8} {'equations':>14} {'listing 1':>15} "
        f"{'x floor':>8} {'graph':>8} {'MiB fused / equations / listing 1':>34}"
    )
    results = []
    for rows, length in SHAPES:
        r = measure(rows, length, rate, options.repeats)
        results.append(r)
        print(
            f"{f'{rows} x {length}':>12} {r['floor_ms']:>7.4f} {r['fused_ms']:>7.3f} {r['graph_ms']:>7.3f} "
            f"{r['metrics_ms']:>8.3f} {r['equations_ms']:>7.3f} {r['equations_ratio']:>5.1f}x "
            f"{r['listing_1_ms']:>8.2f} {r['listing_1_ratio']:>5.0f}x "
            f"{r['over_floor']:>8.1f} {r['graph_over_floor']:>8.1f} "
            f"{r['fused_mib']:>14.0f} / {r['equations_mib']:.0f} / {r['listing_1_mib']:.0f}"
        )
    save(
        "fused",
        {"gpu": gpu, "copy_bytes_per_s": rate, "chunk": fused.CHUNK, "warps": fused.WARPS, "results": results},
        kept=options.save,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
