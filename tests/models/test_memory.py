import pytest
import torch

from fipo.models.memory import out_of_memory


def test_an_allocation_that_fails_on_the_cpu_is_told_from_other_errors_and_says_its_size() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(error.value) == f"CPU out of memory: tried to allocate {2**60} bytes"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0"), "CUDA out of memory"),
        (MemoryError(), "out of memory"),
        (RuntimeError("std::bad_alloc"), "CPU out of memory"),
        (RuntimeError("shapes do not fit"), None),
        (ValueError("std::bad_alloc"), None),
    ],
)
def test_errors_for_want_of_memory_have_one_line(error: Exception, said: str | None) -> None:
    assert out_of_memory(error) == said
