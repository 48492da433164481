"""A whole training step on the CPU, generation included: ours beside that of Hugging Face TRL's GRPOTrainer.

    .venv-trl/bin/python bench/step_vs_trl.py [--steps 5] [--turns 4]

The same random Qwen3 of 0.92M parameters, 2 prompts of 128 tokens x 8 responses of 256 tokens, micro-batches of 8
responses, DAPO's loss, one thread; in processes of their own, in turns, of the same environment: transformers loads
what it finds in one. With 1 mini-batch per step TRL skips the old log-probs, as the policy has not moved; with 2 both
compute them. CPU seconds per step (medians without the first) and peak memory of the process.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from machine import add_save, machine, save

HERE = Path(__file__).parent


def run(script: str, steps: int, mini_batches: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, HERE / script, str(steps), str(mini_batches)],
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def measure(steps: int, turns: int) -> dict[str, dict[str, float]]:
    results = {}
    for mini_batches in (1, 2):
        theirs, ours = [], []
        for _ in range(turns):
            theirs.append(run("step_trl.py", steps, mini_batches))
            ours.append(run("step_fipo.py", steps, mini_batches))
        seconds = [statistics.median(one["cpu_s"] for one in side) for side in (ours, theirs)]
        memory = [max(one["peak_mib"] for one in side) for side in (ours, theirs)]
        results[f"mini_batches_{mini_batches}"] = {
            "fipo_cpu_s": seconds[0],
            "trl_cpu_s": seconds[1],
            "ratio": seconds[1] / seconds[0],
            "fipo_peak_mib": memory[0],
            "trl_peak_mib": memory[1],
            "trl_version": theirs[0]["version"],
        }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="Time a training step on one CPU thread.")
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--turns", type=int, default=4)
    add_save(parser)
    options = parser.parse_args()
    results = measure(options.steps, options.turns)
    print(f"rollout and training step, CPU seconds (peak MiB)\n{machine()}, one thread")
    print(f"{'mini-batches':>12} {'TRL':>14} {'fipo':>14} {'ratio':>7}")
    for name, result in results.items():
        print(
            f"{name.removeprefix('mini_batches_'):>12} {result['trl_cpu_s']:>7.2f} ({result['trl_peak_mib']:.0f}) "
            f"{result['fipo_cpu_s']:>7.2f} ({result['fipo_peak_mib']:.0f}) {result['ratio']:>6.2f}x"
        )
    save("step_vs_trl", results, kept=options.save)


if __name__ == "__main__":
    main()
