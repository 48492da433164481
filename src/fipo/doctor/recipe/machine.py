"""How much memory there is to run in."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

GIB = 2**30
MIB = 2**20
UNLIMITED = 2**60  # what cgroup version 1 says, more or less, for no limit


@dataclass(frozen=True, kw_only=True)
class Machine:
    device: torch.device
    memory: int  # bytes that a run on it can use
    source: str  # where that figure is from, for the user


def amount(size: float) -> str:
    """`1.5 GiB`, or `14 MiB` of what is less than a tenth of one."""
    return f"{size / GIB:.1f} GiB" if size >= 0.1 * GIB else f"{size / MIB:.0f} MiB"


def machine(device: torch.device, memory_gib: float | None) -> Machine:
    """This machine, or with `memory_gib` one that is not here: a CUDA device with as much."""
    if memory_gib is not None:
        return Machine(device=device, memory=int(memory_gib * GIB), source="--memory-gib")
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)  # others may work on it, too
        memory = free + torch.cuda.memory_reserved(device)
        return Machine(device=device, memory=memory, source=f"free on {torch.cuda.get_device_name(device)}")
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = cgroup_limit(Path("/sys/fs/cgroup"), _own_cgroup())
    if limit is not None and limit < physical:
        return Machine(device=device, memory=limit, source="this container's limit")
    return Machine(device=device, memory=physical, source="this machine's memory")


def cgroup_limit(root: Path, own: str) -> int | None:
    """The least memory limit of the control group `own` (a path below `root`) and of those above it; None without."""
    folders = [root / own.strip("/"), *(root / own.strip("/")).parents]
    files = [folder / "memory.max" for folder in folders if folder.is_relative_to(root)]
    files.append(root / "memory" / "memory.limit_in_bytes")  # version 1
    limits = [limit for limit in map(_bytes_in, files) if limit is not None and limit < UNLIMITED]
    return min(limits, default=None)


def _own_cgroup() -> str:
    """`/docker/1234`, or "" where there are no control groups."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.removeprefix("0::") for line in lines if line.startswith("0::")), "")


def _bytes_in(file: Path) -> int | None:
    try:
        return int(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no such file, or "max"
        return None


def own_memory() -> int:
    """Bytes that this process has in memory now: Python and the libraries, before a model is loaded."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    except (OSError, ValueError, IndexError):
        return GIB // 2  # where there is no /proc
    return pages * os.sysconf("SC_PAGE_SIZE")
