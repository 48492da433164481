"""Whether a model is trained on padded rows or on sequences packed into one row."""

from collections.abc import Callable

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fipo.models.attention import obstacle
from fipo.training.passes.packed_attention import forward
from fipo.training.passes.packing import Layout
from fipo.training.passes.segments import Segment, row_of

PROBE = [([5, 6, 7, 4], [3]), ([2], [4]), ([3], [3, 5]), ([3], [2])]  # (prompt, response), in any vocabulary


def layout_of(model: PreTrainedModel, say: Callable[[str], None]) -> Layout:
    """Packed, which is faster on a CPU as well; or padded, with one line that says why."""
    reason = obstacle(model, trial)
    if reason is None:
        return "packed"
    say(f"note: {type(model).__name__} is trained on padded sequences, which is slower: {reason}")
    return "padded"


@torch.no_grad()
def trial(model: PreTrainedModel) -> tuple[float, float]:
    """How far the logits of packed sequences are from those of each alone."""

    def logits(ids: list[int], segments: list[Segment] | None) -> Tensor:
        out = forward(model, model, torch.tensor([ids], device=model.device), segments)
        found: Tensor = out.logits[0].double()
        return found

    row = row_of(PROBE)
    packed = logits(row.tokens, row.segments)[[place for places in row.before for place in places]]
    alone = torch.cat([logits(prompt + response, None)[len(prompt) - 1 : -1] for prompt, response in PROBE])
    return float((packed - alone).abs().mean()), float(alone.abs().max())
