"""Whether Triton kernels run on this process's GPU."""

from collections.abc import Callable
from importlib.util import find_spec

import torch

from fipo.models.memory import out_of_memory


def kernel_obstacle(trial: Callable[[], bool]) -> str | None:
    """Why kernels are not used, by a launch of them. None if they run and `trial` says that what they gave is right.

    Triton builds its launcher when it is first used, for which it needs a C compiler and Python's headers. Running out
    of memory passes through. Whoever asks first may do so without gradients, which a trial may need.
    """
    if find_spec("triton") is None:
        return "triton is not installed"
    try:
        with torch.inference_mode(False), torch.enable_grad():
            right = trial()
    except Exception as failure:
        if out_of_memory(failure):
            raise
        return f"a trial failed with {type(failure).__name__}: {' '.join(str(failure).split())!s:.100}"
    return None if right else "a trial gave other numbers"
