"""Everything of fipo on a GPU in one go, correctness first, then speed: about eight minutes on an H200.

    python bench/gpu_check.py [--out FOLDER] [--only decode,updates] [--budget 480] [--vllm PYTHON]

From a source tree; fipo need not be installed, what it depends on has to be there. Each section prints a line of JSON;
one that fails prints why, and the next one goes on, in a fresh process, as after an error on the device the old one
cannot use it any more. After --budget seconds no further section begins. All results are in FOLDER/gpu_check.json. Exit
code 1 if a section failed. Without a GPU everything runs on small sizes and on the CPU, which shows that the program
works and says nothing of a GPU; the result says so.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

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
    started = time.monotonic()
    try:
        result = importlib.import_module(SECTIONS[section]).SECTIONS[section](options)
    except Exception as failure:
        print(f"FAILED {section}\n{traceback.format_exc()}", flush=True)
        result = {"failed": f"{type(failure).__name__}: {failure}"[:500]}
    return {**result, "seconds": round(time.monotonic() - started, 1)}


def work(options: argparse.Namespace) -> None:
    """The sections that have no result yet, up to and with the first that fails."""
    from device import DEVICE, SMALL, free_memory

    from fipo.models.determinism import deterministic_operations
    from fipo.models.loading import device_of

    device_of("auto", key="device")  # as a run: without cuDNN's attention
    deterministic_operations()
    ends = time.monotonic() + options.budget
    results = read(options) or {"device": DEVICE.type, "small": SMALL, "sections": {}}
    write(options, results)  # with the device, should the first section end this process
    if SMALL and not results["sections"]:
        print("no CUDA device: small sizes on the CPU, whose times say nothing of a GPU", flush=True)
    for section in missing(options):
        result = run(section, options) if time.monotonic() < ends else {"skipped": "no time left"}
        results["sections"][section] = result
        print(json.dumps({section: result}), flush=True)
        write(options, results)
        if "failed" in result:
            return
        free_memory()


def missing(options: argparse.Namespace) -> list[str]:
    known = read(options).get("sections", {})
    return [section for section in options.only.split(",") if section not in known]


def read(options: argparse.Namespace) -> dict[str, Any]:
    path = options.out / "gpu_check.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def write(options: argparse.Namespace, results: dict[str, Any]) -> None:
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "gpu_check.json").write_text(json.dumps(results, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description="Check and time fipo on a GPU.")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, with commas between them")
    parser.add_argument("--budget", type=float, default=480.0, help="seconds after which no section begins")
    parser.add_argument("--vllm", help="a Python with vLLM, for the section decode")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)  # a process of this program's own
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := set(chosen) - SECTIONS.keys():
        parser.error(f"--only must name sections of {', '.join(SECTIONS)}, got {', '.join(sorted(unknown))}")
    prepare()
    if options.worker:
        work(options)
        return 0
    (options.out / "gpu_check.json").unlink(missing_ok=True)
    ends = time.monotonic() + options.budget
    while left := missing(options):
        budget = str(max(0.0, ends - time.monotonic()))
        command = [sys.executable, __file__, *sys.argv[1:], "--budget", budget, "--worker"]
        code = subprocess.run(command).returncode
        if missing(options) == left:
            failed_as_a_whole(left[0], code, options)
    failed = [name for name, result in read(options)["sections"].items() if "failed" in result]
    print(f"{len(chosen) - len(failed)} of {len(chosen)} sections without a failure; {options.out / 'gpu_check.json'}")
    return 1 if failed else 0


def failed_as_a_whole(section: str, code: int, options: argparse.Namespace) -> None:
    """Its process ended before it could say why."""
    print(f"FAILED {section}: its process ended with exit code {code}", flush=True)
    results = read(options) or {"sections": {}}
    results["sections"][section] = {"failed": f"its process ended with exit code {code}"}
    write(options, results)


if __name__ == "__main__":
    sys.exit(main())
