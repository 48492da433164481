"""What every benchmark says of the machine, and where its result goes."""

import argparse
import datetime
import json
import platform
from pathlib import Path
from typing import Any

import torch

HERE = Path(__file__).parent
RESULTS = HERE / "results"  # what the documentation cites, in git
LATEST = HERE.parent / "build" / "bench"  # what git ignores


def machine() -> str:
    """The processor and the versions, in one line."""
    return f"{_processor()}, torch {torch.__version__}, Python {platform.python_version()}"


def add_save(parser: argparse.ArgumentParser) -> None:
    """The option that `save` is told."""
    parser.add_argument("--save", action="store_true", help="to bench/results rather than to build/bench")


def save(name: str, result: dict[str, Any], *, kept: bool) -> Path:
    """NAME.json with the date and the machine: in bench/results if it is to be kept, else where git does not look."""
    folder = RESULTS if kept else LATEST
    folder.mkdir(parents=True, exist_ok=True)
    content = {"date": datetime.date.today().isoformat(), "machine": machine(), **result}
    path = folder / f"{name}.json"
    path.write_text(json.dumps(content, indent=2) + "\n")
    return path


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
