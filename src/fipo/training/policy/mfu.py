"""Model FLOPs utilisation: the arithmetic that training needs, per second, as a share of what the device can do."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

# Dense peaks of data sheets in half precision, FLOP/s, by a part of the name that CUDA reports; the first that fits.
DATA_SHEETS = {
    "B300": 2250e12,
    "B200": 2250e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "H800 PCIe": 756e12,
    "H800": 989e12,
    "H200 NVL": 835e12,
    "H200": 989e12,
    "H20": 148e12,
    "A100": 312e12,
    "A800": 312e12,
    "A10G": 70e12,
    "A10": 125e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "RTX 5090": 209e12,
    "RTX 4090": 165e12,
}

Work = tuple[int, int]  # (tokens, tokens before them that they see and that are computed elsewhere)


@dataclass(frozen=True, kw_only=True)
class Compute:
    """What a model costs on a device. A recomputed activation is not counted: MFU is of the work that is needed."""

    per_token: float  # FLOPs of a forward pass, of products with weights
    per_pair: float  # FLOPs of a forward pass for each token and each token that it looks at
    peak: float  # FLOP/s
    frozen_per_token: float = 0.0  # the part of per_token by frozen weights, of which no gradient is computed

    def training_flops(self, updated: Sequence[Work], scored: Sequence[Work]) -> float:
        """A forward and a backward pass (two forward ones) over `updated`, a forward one over `scored`."""
        needless = self.frozen_per_token * sum(length for length, _ in updated)
        return 3 * sum(map(self._forward, updated)) - needless + sum(map(self._forward, scored))

    def _forward(self, work: Work) -> float:
        length, past = work
        return self.per_token * length + self.per_pair * (length * (length + 1) / 2 + length * past)


def compute_of(model: PreTrainedModel) -> Compute:
    """By the usual count: 2 FLOPs per weight and token, embeddings looked up for nothing; 4 per pair, head and size.

    Of a mixture of experts all weights are counted, although a token meets a few of them: an upper bound.
    """
    config = model.config.get_text_config()
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    head: Any = model.get_output_embeddings()
    embedding: Any = model.get_input_embeddings()
    looked_up = None if head is not None and head.weight is embedding.weight else embedding.weight
    multiplied = [weight for weight in model.parameters() if weight.dim() > 1 and weight is not looked_up]
    return Compute(
        per_token=2.0 * sum(map(_numbers, multiplied)),
        frozen_per_token=2.0 * sum(_numbers(weight) for weight in multiplied if not weight.requires_grad),
        per_pair=4.0 * config.num_hidden_layers * config.num_attention_heads * size,
        peak=peak_flops(model.device, model.dtype),
    )


def _numbers(weight: Tensor) -> int:
    """How many it stands for: two in a byte where they are kept in 4 bits."""
    return weight.numel() * (2 if weight.dtype == torch.uint8 else 1)


def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """FLOP/s of the data sheet in half precision on a known GPU; elsewhere what a large matrix product reaches."""
    known = None
    if device.type == "cuda" and dtype.itemsize == 2:
        known = data_sheet(torch.cuda.get_device_name(device))
    return known or _matmul_rate(device, dtype)


def data_sheet(name: str) -> float | None:
    """The peak of a GPU by the name that CUDA reports."""
    return next((peak for part, peak in DATA_SHEETS.items() if part in name), None)


@cache
def _matmul_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Measured once in a process: on a CPU it takes more than a second in float16."""
    size = 4096 if device.type == "cuda" else 768
    a = torch.ones(size, size, device=device, dtype=dtype)
    best = 0.0
    for _ in range(4):
        started = time.perf_counter()
        float((a @ a)[0, 0])  # waits for the device
        best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best
