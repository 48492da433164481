"""Future KL on the CPU: `fipo.objective.future_kl` beside the chunked matmul of the FIPO paper (Listing 1).

    python bench/future_kl.py [--rows 16] [--lengths 2048 8192 20480] [--repeats 5]

Both compute F_t = sum over k >= t of gamma^(k-t) x_k in float32 on one thread, in turns within one run. Times are
CPU seconds of the process (median and smallest of the repeats), so that a busy machine does not count. --save:
to bench/results/future_kl.json.
"""

import argparse
import math
import statistics
import time
from collections.abc import Callable

import torch
from machine import add_save, machine, save
from torch import Tensor

from fipo.objective import future_kl


def chunked_matmul(x: Tensor, half_life: float, chunk: int = 128) -> Tensor:
    """The published algorithm: multiply each chunk of tokens by its [T, chunk] block of decays. O(T^2).

    As fast as it gets: blocks of zeros are left out (twice the speed), and exponents stop at -80, because
    denormal numbers would make a CPU several times slower.
    """
    positions = torch.arange(x.shape[1], dtype=torch.float32)
    log_gamma = -math.log(2.0) / half_life
    total = torch.zeros_like(x)
    for start in range(0, x.shape[1], chunk):
        later = slice(start, start + chunk)
        earlier = slice(0, start + chunk)
        distance = positions[later][None, :] - positions[earlier][:, None]
        decay = torch.where(distance >= 0, (log_gamma * distance).clamp(min=-80).exp(), 0.0)
        total[:, earlier] += x[:, later] @ decay.T
    return total


def cpu_seconds(function: Callable[[], Tensor]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def measure(rows: int, length: int, repeats: int, half_life: float = 32.0) -> dict[str, float]:
    """CPU seconds of both, taken in turns, and how far apart their results are."""
    x = 0.05 * torch.randn(rows, length, generator=torch.Generator().manual_seed(0))
    difference = (future_kl(x, half_life) - chunked_matmul(x, half_life)).abs().max().item()
    ours, theirs = [], []
    for _ in range(repeats):
        ours += [cpu_seconds(lambda: future_kl(x, half_life)) for _ in range(10)]
        theirs.append(cpu_seconds(lambda: chunked_matmul(x, half_life)))
    return {
        "length": length,
        "ours_s": statistics.median(ours),
        "ours_min_s": min(ours),
        "chunked_matmul_s": statistics.median(theirs),
        "chunked_matmul_min_s": min(theirs),
        "ratio": statistics.median(theirs) / statistics.median(ours),
        "largest_difference": difference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the future KL on one CPU thread.")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 8192, 20480])
    parser.add_argument("--repeats", type=int, default=5)
    add_save(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"future KL, B={options.rows}, float32, half-life 32, CPU ms, medians")
    print(f"{machine()}, one thread")
    print(f"{'T':>7} {'ours':>10} {'chunked matmul':>15} {'ratio':>8} {'max diff':>10}")
    results = []
    for length in options.lengths:
        result = measure(options.rows, length, options.repeats)
        results.append(result)
        print(
            f"{length:>7} {1e3 * result['ours_s']:>10.3f} {1e3 * result['chunked_matmul_s']:>15.1f} "
            f"{result['ratio']:>7.0f}x {result['largest_difference']:>10.1e}"
        )
    save("future_kl", {"rows": options.rows, "results": results}, kept=options.save)


if __name__ == "__main__":
    main()
