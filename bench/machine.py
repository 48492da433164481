"""What every benchmark says of the machine, and where its result goes."""

import datetime
import json
import platform
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """The processor and the versions, in one line."""
    return f"{_processor()}, torch {torch.__version__}, Python {platform.python_version()}"


def save(name: str, result: dict[str, Any]) -> None:
    """`bench/results/NAME.json`, with the date and the machine."""
    RESULTS.mkdir(exist_ok=True)
    content = {"date": datetime.date.today().isoformat(), "machine": machine(), **result}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=2) + "\n")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
