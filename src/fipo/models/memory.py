"""Errors for want of memory, which are no fault of what was being computed."""

import re

import torch

ON_CPU = re.compile(r"DefaultCPUAllocator: .*?(tried to allocate \d+ bytes)|std::bad_alloc")


def out_of_memory(error: BaseException) -> str | None:
    """What there was no memory for, in one line, on CUDA or on the CPU; None of another error."""
    if isinstance(error, torch.OutOfMemoryError):
        return str(error).split(". ")[0]
    if isinstance(error, MemoryError):
        return "out of memory"
    if isinstance(error, RuntimeError) and (found := ON_CPU.search(str(error))):  # torch has no class of its own for it
        return f"CPU out of memory: {found[1]}" if found[1] else "CPU out of memory"
    return None
