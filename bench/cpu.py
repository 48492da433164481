"""Every CPU benchmark that compares with others, in one run. --save: to bench/results/cpu.json.

.venv-trl/bin/python bench/cpu.py
"""

import argparse

import future_kl
import rollout
import step_vs_trl
import torch
from machine import add_save, machine, save


def main() -> None:
    parser = argparse.ArgumentParser(description="Run the CPU benchmarks.")
    add_save(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)

    generation = rollout.measure(repeats=5)
    step = step_vs_trl.measure(steps=5, turns=4)
    longest = future_kl.measure(rows=16, length=20480, repeats=5)
    ratios = {
        "rollout_fixed_vs_generate": generation["fixed"]["ratio"],
        "rollout_ragged_vs_generate": generation["ragged"]["ratio"],
        "step_vs_trl": step["mini_batches_1"]["ratio"],
        "step_of_two_mini_batches_vs_trl": step["mini_batches_2"]["ratio"],
        "future_kl_vs_chunked": longest["ratio"],
    }
    print(f"ratios of CPU seconds, one thread\n{machine()}")
    for name, ratio in ratios.items():
        print(f"{name:>32} {ratio:>8.2f}x")
    save("cpu", {"ratios": ratios, "rollout": generation, "step": step, "future_kl": longest}, kept=options.save)


if __name__ == "__main__":
    main()
