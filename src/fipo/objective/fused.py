"""`policy_loss` on CUDA: the loss of each row, its gradient and every metric in two passes of Triton kernels.

The weights f are constants, so d l / d logprobs has a closed form and needs no graph:

    d l / d logprobs = -A f r    where neither a clip nor the clamp of the log-ratio is active, else 0

A first pass reduces each chunk of tokens to its own future KL at its first token. In the second pass every chunk
adds the decayed sums of the chunks after it, scans its tokens, and writes the gradient of its token losses and its
part of all sums. All chunks of all rows run side by side, so that one long response is as parallel as many short
ones. Backward scales each row's gradient.

Every chunk has its own place for its sums, which are added in float64 and in a fixed order; counts are integers:
the result is the same from run to run. Source of the equations: see `policy_loss`.
"""

# mypy: allow-untyped-calls
import math
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from fipo.objective.algorithm import Algorithm
from fipo.objective.config import FIPOConfig
from fipo.objective.events import COUNTS, EVENTS
from fipo.objective.metrics import RATIO_BINS
from fipo.objective.surrogates import Clipped
from fipo.objective.types import LossInputs, Ratios, RowLosses, Spread, TokenFields, TokenSums

CHUNK = 256  # tokens of one program, a power of two
WARPS = 1  # of several each scan and each sum would wait for the others
HISTOGRAMS = 32  # copies, added up at the end
VALUES = 14  # sums and extremes of token_kernel
MAX_DECAY_RATE = 1000.0  # gamma is 0 in float32 long before; keeps exponents finite


def applies(inputs: LossInputs, algorithm: Algorithm) -> bool:
    """Whether the kernels know how to do this: they know the surrogate `clipped` without importance weights, FIPO's own
    weights, and float32 on CUDA, not empty, where Triton works."""
    known = type(algorithm.surrogate) is Clipped and inputs.importance_weights is None
    return known and _runs_on(inputs.logprobs, inputs.old_logprobs)


def _runs_on(logprobs: Tensor, old_logprobs: Tensor) -> bool:
    single = logprobs.dtype == old_logprobs.dtype == torch.float32
    return logprobs.is_cuda and single and logprobs.numel() > 0 and obstacle() is None


def row_losses(inputs: LossInputs, cfg: FIPOConfig, *, fields: Callable[[], TokenFields]) -> RowLosses:
    """The token losses of FIPO's own weights summed over each row, as `policy_loss` defines them.

    Shapes: as in LossInputs, with B, T >= 1. The gradient of `loss` can be taken once, not twice.
    fields: what gives the per-token fields when somebody asks for them.
    """
    loss, counts, values, histogram = _TokenLosses.apply(inputs.logprobs, inputs, cfg)
    per_row = counts.view(len(COUNTS), inputs.logprobs.shape[0], -1).sum(dim=2)
    return RowLosses(
        loss=loss,
        tokens=per_row[COUNTS.index("tokens")],
        dual_clipped=per_row[COUNTS.index("policy/dual_clip_fraction")],
        fields=fields,
        sums=lambda: _sums(counts, values, histogram),
    )


class _TokenLosses(torch.autograd.Function):
    """(each row's loss, counts, values, histogram); see `kernels.token_kernel`."""

    @staticmethod
    def forward(
        ctx: Any, logprobs: Tensor, inputs: LossInputs, cfg: FIPOConfig
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        gradient, counts, values, histogram = _launch(inputs, cfg)
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(counts, values, histogram)
        ctx.set_materialize_grads(False)
        loss = values[0].view(logprobs.shape[0], -1).sum(dim=1).to(logprobs.dtype)
        return loss, counts, values, histogram

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, row_scale: Tensor | None, *_: None) -> tuple[Tensor | None, None, None]:
        if row_scale is None:
            return None, None, None
        (gradient,) = ctx.saved_tensors
        return _scaled(gradient, row_scale.contiguous()), None, None


def _launch(inputs: LossInputs, cfg: FIPOConfig) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from fipo.objective import kernels

    logprobs, old_logprobs = inputs.logprobs.detach().contiguous(), inputs.old_logprobs.detach().contiguous()
    loss_mask = inputs.loss_mask.contiguous().view(torch.uint8)
    advantages = inputs.advantages.detach().to(torch.float32).contiguous()
    rows, length = logprobs.shape
    chunks = -(-length // CHUNK)
    programs = rows * chunks

    chunk_kl = logprobs.new_empty(programs)
    gradient = torch.empty_like(logprobs)
    counts = logprobs.new_empty(len(COUNTS), programs, dtype=torch.int32)
    values = logprobs.new_empty(VALUES, programs, dtype=torch.float64)
    histogram = logprobs.new_zeros(HISTOGRAMS, 2, RATIO_BINS, dtype=torch.int32)
    decay_rate = min(1 / cfg.half_life, MAX_DECAY_RATE)
    log_dual_clip = math.log(cfg.dual_clip)
    low, high = cfg.influence_bounds
    with torch.cuda.device_of(logprobs):
        kernels.chunk_kernel[(programs,)](
            logprobs, old_logprobs, loss_mask, chunk_kl, length, chunks, decay_rate, log_dual_clip,
            CHUNK=CHUNK, num_warps=WARPS,
        )  # fmt: skip
        kernels.token_kernel[(programs,)](
            logprobs, old_logprobs, loss_mask, advantages, chunk_kl, gradient, counts, values, histogram,
            length, chunks, decay_rate, log_dual_clip, float(cfg.dual_clip), float(low), float(high),
            math.log(cfg.safety_threshold), float(cfg.safety_floor), 1.0 - cfg.clip_low, 1.0 + cfg.clip_high,
            PER_TOKEN=advantages.dim() == 2, CHUNK=CHUNK, CHUNKS=max(128, _power_of_two(chunks)), COPIES=HISTOGRAMS,
            num_warps=WARPS,
        )  # fmt: skip
    return gradient, counts, values, histogram


def _scaled(gradient: Tensor, row_scale: Tensor) -> Tensor:
    """Each row of gradient times its scale; where the scale is 0, 0, whatever the gradient."""
    from fipo.objective import kernels

    rows, length = gradient.shape
    chunks = -(-length // CHUNK)
    scaled = torch.empty_like(gradient)
    with torch.cuda.device_of(gradient):
        kernels.scale_kernel[(rows * chunks,)](
            gradient, row_scale, scaled, length, chunks, CHUNK=CHUNK, num_warps=WARPS
        )
    return scaled


@torch.no_grad()
def _sums(counts: Tensor, values: Tensor, histogram: Tensor) -> TokenSums:
    """The sums of the batch from those of its chunks."""
    total = dict(zip(COUNTS, counts.sum(dim=1), strict=True))
    log_ratio = values[1].sum()
    tokens = counts[0]
    ratios = histogram.sum(dim=0)
    ratios[0, RATIO_BINS // 2] += total["unmoved_positive"]
    ratios[1, RATIO_BINS // 2] += total["unmoved_negative"]
    return TokenSums(
        tokens=total["tokens"],
        events={name: total[name] for name in EVENTS},
        log_ratio=log_ratio,
        weights=_merged(values[2:6], tokens),
        raw_weights=_merged(values[6:10], tokens),
        positive=Ratios(counts=ratios[0], **_extremes(values[10:12], log_ratio)),
        negative=Ratios(counts=ratios[1], **_extremes(values[12:14], log_ratio)),
    )


def _merged(parts: Tensor, tokens: Tensor) -> Spread:
    """One Spread of many, [4, parts] and how many tokens each covers: Chan's formula, for all parts at once."""
    totals, squares, extremes = parts[0], parts[1], parts[2:]
    total = totals.sum()
    gaps = totals / tokens.clamp(min=1) - total / tokens.sum().clamp(min=1)
    return Spread(total=total, squares=(squares + tokens * gaps.square()).sum(), **_extremes(extremes, total))


def _extremes(parts: Tensor, total: Tensor) -> dict[str, Tensor]:
    """The smallest and the largest of all parts. The kernel's ignore NaN, which only the total shows."""
    nan_or_zero = torch.where(total.isnan(), total, 0.0)
    return {"smallest": parts[0].amin() + nan_or_zero, "largest": parts[1].amax() + nan_or_zero}


def _power_of_two(n: int) -> int:
    """The smallest power of two that is >= n."""
    return 1 << (n - 1).bit_length()


@cache
def obstacle() -> str | None:
    """Why the kernels do not run on this process's GPU, by a launch of all of them. None if they do.

    Triton builds its launcher when it is first used, for which it needs a C compiler and Python's headers.
    """
    if find_spec("triton") is None:
        return "triton is not installed"
    try:
        with torch.inference_mode(False), torch.enable_grad():  # whoever asks first
            right = _kernels_are_right(torch.device("cuda"))
    except torch.OutOfMemoryError:
        raise
    except Exception as failure:
        return f"a trial failed with {type(failure).__name__}: {' '.join(str(failure).split())!s:.100}"
    return None if right else "a trial gave another gradient"


def _kernels_are_right(device: torch.device) -> bool:
    logprobs = torch.zeros(1, 4, device=device, requires_grad=True)
    inputs = LossInputs(
        logprobs=logprobs,
        old_logprobs=logprobs.detach(),
        advantages=torch.ones(1, device=device),
        loss_mask=torch.ones(1, 4, device=device, dtype=torch.bool),
    )
    loss = _TokenLosses.apply(logprobs, inputs, FIPOConfig())[0].sum()
    (gradient,) = torch.autograd.grad(loss, logprobs)
    return bool((gradient == -1).all())
