import pytest
import torch
from tests.conftest import SHAPE
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from fipo.training.policy.mfu import Compute, compute_of, data_sheet, peak_flops

LENGTH = 24


def counted(model: PreTrainedModel) -> int:
    """FLOPs of matrix products in a forward pass, as torch counts them; attention over the whole square."""
    model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.ones(1, LENGTH, dtype=torch.long), use_cache=False)
    return counter.get_total_flops()


@pytest.mark.parametrize("tied", [False, True])
def test_a_forward_pass_costs_what_torch_counts(tied: bool) -> None:
    model = LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=tied)).eval()
    compute = compute_of(model)
    assert compute.per_token * LENGTH + compute.per_pair * LENGTH**2 == pytest.approx(counted(model), rel=0.01)


def test_an_update_costs_three_forward_passes_and_a_score_one() -> None:
    compute = Compute(per_token=10.0, per_pair=1.0, peak=1.0)
    assert compute.training_flops([(3, 0)], []) == 3 * (30 + 6)
    assert compute.training_flops([], [(3, 0), (1, 2)]) == (30 + 6) + (10 + 3)


def test_the_peak_of_a_device_without_a_data_sheet_is_measured() -> None:
    assert 1e8 < peak_flops(torch.device("cpu"), torch.float32) < 1e14


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H200 NVL", 835e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA H800", 989e12),
        ("NVIDIA H20", 148e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA B300 SXM6 AC", 2250e12),
        ("NVIDIA GeForce RTX 5090", 209e12),
        ("Some other GPU", None),
    ],
)
def test_a_gpu_is_found_by_the_name_that_cuda_reports(name: str, peak: float | None) -> None:
    assert data_sheet(name) == peak
