"""A CPU as a verl platform, chosen by VERL_PLATFORM=cpu.

To Ray it is a GPU: `ray_kwargs.ray_init.num_gpus=N` gives N logical ones, so that verl's placement works unchanged.
"""

import types
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry


class CPUDevice(types.ModuleType):
    """What verl expects of `torch.cuda`: nothing to wait for, no memory to count; the rest from `torch.cpu`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)


def _nothing(*_: Any, **__: Any) -> None:
    pass


def _device_module() -> CPUDevice:
    module = CPUDevice("fipo_cpu_device")
    idle = ("empty_cache", "synchronize", "set_device", "reset_peak_memory_stats", "manual_seed", "manual_seed_all")
    memory = ("memory_allocated", "memory_reserved", "max_memory_allocated", "max_memory_reserved")
    functions: dict[str, Any] = {
        **dict.fromkeys((*idle, "ipc_collect"), _nothing),
        **dict.fromkeys(memory, lambda *_, **__: 0),
        "mem_get_info": lambda *_, **__: (0, 0),
        "is_available": lambda: False,
        "current_device": lambda: torch.device("cpu"),
        "device_count": lambda: 1,
        "get_rng_state": lambda *_, **__: torch.get_rng_state(),
        "set_rng_state": lambda state, *_, **__: torch.set_rng_state(state),
        "get_device_name": lambda *_, **__: "CPU",
    }
    vars(module).update(functions)
    return module


@PlatformRegistry.register(platform="cpu")
class CPUPlatform(PlatformBase):  # type: ignore[misc, unused-ignore]
    device_name = "cpu"
    vendor_name = "cpu"
    device_module = _device_module()

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        return False  # never found by itself: only by VERL_PLATFORM

    def current_device(self) -> torch.device:
        return torch.device("cpu")

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        pass

    def synchronize(self, device_index: int | None = None) -> None:
        pass

    def manual_seed(self, seed: int) -> None:
        pass

    def manual_seed_all(self, seed: int) -> None:
        pass

    def set_allocator_settings(self, settings: str) -> None:
        pass

    def empty_cache(self) -> None:
        pass

    def get_device_capability(self, device_index: int = 0) -> tuple[None, None]:
        return (None, None)

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None:
        pass

    def profiler_stop(self) -> None:
        pass

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False

    def cudart(self) -> None:
        return None
