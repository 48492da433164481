"""Everything of fipo on a GPU in one go, correctness first, then speed: about eight minutes on an H200.

    python bench/gpu_check.py [--out FOLDER] [--only decode,updates] [--budget 480] [--vllm PYTHON]

From a source tree; fipo need not be installed, what it depends on has to be there. Each section prints a line of JSON;
one that fails prints why, and the next one goes on. After --budget seconds no further section begins. All results are
in FOLDER/gpu_check.json. Exit code 1 if a section failed. Without a GPU everything runs on small sizes and on the CPU,
which shows that the program works and says nothing of a GPU; the result says so.
"""

import argparse
import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = {
    "environment": "gpu_kernels",
    "ceilings": "gpu_kernels",
    "attention": "gpu_kernels",
    "packed": "gpu_kernels",
    "engine": "gpu_generation",
    "decode": "gpu_generation",
    "gap": "gpu_generation",
    "updates": "gpu_training",
    "scoring": "gpu_kernels",
    "objective": "gpu_kernels",
    "precision": "gpu_programs",
    "resume": "gpu_programs",
    "tests": "gpu_programs",
    "sanitizer": "gpu_programs",
}


def prepare() -> None:
    """The source tree on the path, of the programs that are started too, and what is read when torch starts."""
    from_here = str(ROOT / "src")
    sys.path.insert(0, from_here)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [from_here, os.environ.get("PYTHONPATH")]))
    from fipo.cli import BEFORE_TORCH

    for name, value in BEFORE_TORCH.items():
        os.environ.setdefault(name, value)


def run(section: str, options: argparse.Namespace) -> dict[str, object]:
    from device import free_memory

    started = time.monotonic()
    try:
        result = importlib.import_module(SECTIONS[section]).SECTIONS[section](options)
    except Exception as failure:
        print(f"FAILED {section}\n{traceback.format_exc()}", flush=True)
        result = {"failed": f"{type(failure).__name__}: {failure}"[:500]}
    free_memory()
    return {**result, "seconds": round(time.monotonic() - started, 1)}


def main() -> int:
    parser = argparse.ArgumentParser(description="Check and time fipo on a GPU.")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas between them")
    parser.add_argument("--budget", type=float, default=480.0, help="seconds after which no section begins")
    parser.add_argument("--vllm", help="a Python with vLLM, for the section decode")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := set(chosen) - SECTIONS.keys():
        parser.error(f"--only must name sections of {', '.join(SECTIONS)}, got {', '.join(sorted(unknown))}")
    prepare()
    from device import DEVICE, SMALL

    started = time.monotonic()
    results: dict[str, object] = {"device": DEVICE.type, "small": SMALL, "sections": {}}
    if SMALL:
        print("no CUDA device: small sizes on the CPU, whose times say nothing of a GPU", flush=True)
    for section in chosen:
        late = time.monotonic() - started > options.budget
        result: dict[str, object] = {"skipped": "no time left"} if late else run(section, options)
        results["sections"] |= {section: result}  # type: ignore[operator]
        print(json.dumps({section: result}), flush=True)
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "gpu_check.json").write_text(json.dumps(results, indent=1) + "\n")
    failed = [name for name, result in results["sections"].items() if "failed" in result]  # type: ignore[attr-defined]
    print(f"{len(chosen) - len(failed)} of {len(chosen)} sections without a failure; {options.out / 'gpu_check.json'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
