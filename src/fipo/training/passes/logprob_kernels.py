"""Log-probs, entropies and their gradient from logits by Triton kernels, with logits read once each way.

torch's operations pass over a chunk of logits nine times. Here one program reads the row of a token in blocks of
words, and keeps the largest logit m so far and two sums that are scaled anew whenever m grows:

    s = sum exp(x - m)    w = sum exp(x - m) x    where x = logits / temperature
    n = m + log s    logprob = x_token - n    entropy H = n - w / s

and the gradient has a closed form, with p = exp(x - n):

    d logprob / d logits = (1[token] - p) / temperature    d H / d logits = -p (x - n + H) / temperature

Nothing is added by several programs, so the result is the same from run to run, and a row's does not depend on others.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK = 4096  # words that a program reads at a time, a power of two
WARPS = 8


def token_scores(logits: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """(log softmax(logits / temperature) of each token, entropy in nats of its distribution), each [N] float32.

    logits [N, V] in float32 or a half precision, tokens [N] int64. The gradient can be taken once, not twice.
    """
    logprobs, entropy = _TokenScores.apply(logits, tokens, temperature)
    return logprobs, entropy


class _TokenScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: Tensor, tokens: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        logits = logits if logits.stride(-1) == 1 else logits.contiguous()
        rows, words = logits.shape
        logprobs, entropy, normaliser = torch.empty(3, rows, dtype=torch.float32, device=logits.device).unbind(0)
        with torch.cuda.device_of(logits):
            forward_kernel[(rows,)](
                logits, tokens, logprobs, entropy, normaliser, words, logits.stride(0), 1.0 / temperature,
                BLOCK=BLOCK, num_warps=WARPS,
            )  # fmt: skip
        ctx.save_for_backward(logits, tokens, normaliser, entropy)
        ctx.temperature = temperature
        ctx.set_materialize_grads(False)
        return logprobs, entropy

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_logprobs: Tensor | None, of_entropy: Tensor | None) -> tuple[Tensor | None, None, None]:
        if of_logprobs is None and of_entropy is None:
            return None, None, None
        logits, tokens, normaliser, entropy = ctx.saved_tensors
        rows, words = logits.shape
        slopes = [
            torch.zeros_like(normaliser) if slope is None else slope.contiguous() for slope in (of_logprobs, of_entropy)
        ]
        gradient = torch.empty_like(logits, memory_format=torch.contiguous_format)
        with torch.cuda.device_of(logits):
            backward_kernel[(rows, triton.cdiv(words, BLOCK))](
                logits, tokens, normaliser, entropy, *slopes, gradient, words, logits.stride(0), 1.0 / ctx.temperature,
                WITH_ENTROPY=of_entropy is not None, BLOCK=BLOCK, num_warps=WARPS,
            )  # fmt: skip
        return gradient, None, None


@triton.jit
def _finite(x):
    """0 in place of an infinity, which as a reference would make every other number NaN."""
    return tl.where(tl.abs(x) == float("inf"), 0.0, x)


@triton.jit
def forward_kernel(
    logits,  # [N, V]
    tokens,  # [N] int64
    logprobs,  # [N] out
    entropy,  # [N] out
    normaliser,  # [N] out: n
    words,
    stride,  # between two rows of logits
    inverse,  # 1 / temperature
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    here = logits + row.to(tl.int64) * stride
    offset = tl.arange(0, BLOCK)
    largest = float("-inf")
    total = 0.0
    weighted = 0.0
    for start in range(0, words, BLOCK):
        inside = start + offset < words
        x = tl.load(here + start + offset, mask=inside, other=0.0).to(tl.float32) * inverse
        higher = tl.maximum(largest, tl.max(tl.where(inside, x, float("-inf"))))
        kept = tl.where(largest == float("-inf"), 0.0, tl.exp(_finite(largest) - _finite(higher)))
        part = tl.where(inside, tl.exp(x - _finite(higher)), 0.0)
        total = total * kept + tl.sum(part)
        weighted = weighted * kept + tl.sum(part * x)
        largest = higher
    n = _finite(largest) + tl.log(total)
    of_token = tl.load(here + tl.load(tokens + row)).to(tl.float32) * inverse
    tl.store(logprobs + row, of_token - n)
    tl.store(entropy + row, n - weighted / total)
    tl.store(normaliser + row, n)


@triton.jit
def backward_kernel(
    logits,
    tokens,
    normaliser,
    entropy,
    of_logprobs,  # [N] gradients of the loss
    of_entropy,
    gradient,  # [N, V] out, contiguous
    words,
    stride,
    inverse,
    WITH_ENTROPY: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row = tl.program_id(0)
    word = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = word < words
    n = tl.load(normaliser + row)
    x = tl.load(logits + row.to(tl.int64) * stride + word, mask=inside, other=0.0).to(tl.float32) * inverse
    p = tl.exp(x - n)
    chosen = tl.where(word == tl.load(tokens + row), 1.0, 0.0)
    slope = tl.load(of_logprobs + row) * (chosen - p)
    if WITH_ENTROPY:
        slope -= tl.load(of_entropy + row) * p * (x - n + tl.load(entropy + row))
    tl.store(gradient + row.to(tl.int64) * words + word, (slope * inverse).to(gradient.dtype.element_ty), mask=inside)
