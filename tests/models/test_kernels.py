from contextlib import AbstractContextManager

import pytest
import torch

from fipo.models import kernels
from fipo.models.kernels import kernel_obstacle


@pytest.fixture(autouse=True)
def triton_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "find_spec", lambda _: True)


def takes_a_gradient() -> bool:
    x = torch.ones(2, requires_grad=True)
    (gradient,) = torch.autograd.grad(x.square().sum(), x)
    return bool((gradient == 2).all())


@pytest.mark.parametrize("without", [torch.no_grad(), torch.inference_mode()], ids=["no_grad", "inference_mode"])
def test_a_trial_may_take_gradients_whoever_asks_first(without: AbstractContextManager[None]) -> None:
    with without:
        assert kernel_obstacle(takes_a_gradient) is None


def test_a_trial_that_fails_or_gives_other_numbers_says_so() -> None:
    def fails() -> bool:
        raise RuntimeError("no\ncompiler")

    assert kernel_obstacle(fails) == "a trial failed with RuntimeError: no compiler"
    assert kernel_obstacle(lambda: False) == "a trial gave other numbers"


def test_want_of_memory_is_no_fault_of_the_kernels() -> None:
    def fails() -> bool:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(torch.OutOfMemoryError):
        kernel_obstacle(fails)
