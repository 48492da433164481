"""From logits to tokens: temperature, top-k, top-p, and one uniform random number per token."""

from dataclasses import dataclass

import torch
from torch import Tensor

from fipo.rollout.sampler import SamplingParams

BLOCK = 256  # words whose probabilities are summed up first
HEAD = 1024  # likeliest words of a large vocabulary, among which a nucleus is sought before all are sorted


@dataclass(frozen=True, kw_only=True)
class Choice:
    tokens: Tensor  # [B] int64
    logprobs: Tensor  # [B] float32, under softmax(logits / T), or softmax(logits) if greedy: the policy's


def choose(logits: Tensor, params: SamplingParams, uniforms: Tensor) -> Choice:
    """One token per row of `logits` [B, V], by inverse CDF from `uniforms` [B] in [0, 1).

    A row's token depends on that row's logits and uniform number alone, not on its neighbours. `params` are those
    of V words: `params.of(V)`.
    """
    scaled = logits.float() if params.temperature in (0, 1) else logits.float() / params.temperature
    logprobs = torch.log_softmax(scaled, dim=-1)
    if params.temperature == 0:
        tokens = logits.argmax(-1)
        return Choice(tokens=tokens, logprobs=_of(logprobs, tokens))
    probs = logprobs.exp()
    if params.top_k:
        probs = likeliest(probs, params.top_k)
    if params.top_p < 1:
        probs = nucleus(probs, params.top_p)
    tokens = inverse_cdf(probs, uniforms)
    return Choice(tokens=tokens, logprobs=_of(logprobs, tokens))


def inverse_cdf(probs: Tensor, uniforms: Tensor) -> Tensor:
    """[B] the first word at which the running sum of `probs` [B, V] passes `uniforms` [B] x the whole sum.

    In two stages, blocks of words and then the words of one block, so that of a large vocabulary only 1/256 is
    summed up in float64. `probs` need not sum to 1; a word with probability 0 is never chosen.
    """
    rows, words = probs.shape
    blocks = torch.nn.functional.pad(probs, (0, -words % BLOCK)).view(rows, -1, BLOCK)
    block, rest = _pass(blocks.sum(-1, dtype=torch.float64), uniforms.double(), relative=True)
    inside = blocks.gather(1, block[:, None, None].expand(-1, 1, BLOCK))[:, 0].double()
    word, _ = _pass(inside, rest, relative=False)
    return (block * BLOCK + word).clamp(max=words - 1)


def _pass(weights: Tensor, at: Tensor, *, relative: bool) -> tuple[Tensor, Tensor]:
    """(where the running sum of `weights` [B, N] first exceeds `at` [B], how far `at` is into that weight)."""
    running = weights.cumsum(-1)
    whole = running[:, -1]
    goal = at * whole if relative else at
    goal = torch.minimum(goal, torch.nextafter(whole, torch.zeros_like(whole)))[:, None]
    index = torch.searchsorted(running, goal, right=True).clamp(max=weights.shape[1] - 1)  # past the end if NaN
    return index[:, 0], (goal - (running.gather(1, index) - weights.gather(1, index)))[:, 0].clamp(min=0)


def likeliest(probs: Tensor, top_k: int) -> Tensor:
    """`probs` [B, V] with 0 for all but the `top_k` <= V likeliest tokens, more only where some tie with the last."""
    least = probs.topk(top_k, dim=-1).values[:, -1:]
    return probs.masked_fill(probs < least, 0.0)


def nucleus(probs: Tensor, top_p: float) -> Tensor:
    """`probs` [B, V] with 0 outside the smallest set of likeliest tokens that holds at least `top_p` of their sum.

    Of tokens that are equally likely the first ones come first.
    """
    goal = top_p * probs.sum(-1, keepdim=True, dtype=torch.float64)
    if probs.device.type == "cpu" and not torch.jit.is_tracing() and probs.shape[-1] > 8 * HEAD:
        places = probs.topk(HEAD, dim=-1).indices.sort(dim=-1).values
        ordered, order = probs.gather(-1, places).sort(dim=-1, descending=True, stable=True)
        outside = _outside(ordered, goal)
        if bool((outside & (ordered > ordered[:, -1:])).any(-1).all()):  # nothing like the last one is left out
            return _scattered(probs, ordered, places.gather(-1, order), outside)
    ordered, order = probs.sort(dim=-1, descending=True, stable=True)
    return _scattered(probs, ordered, order, _outside(ordered, goal))


def _outside(ordered: Tensor, goal: Tensor) -> Tensor:
    """Which of the values, the largest first, come after those that reach the goal."""
    weights = ordered.double()
    return weights.cumsum(-1) - weights >= goal


def _scattered(probs: Tensor, ordered: Tensor, order: Tensor, outside: Tensor) -> Tensor:
    return torch.zeros_like(probs).scatter_(-1, order, ordered.masked_fill(outside, 0.0))


def _of(logprobs: Tensor, tokens: Tensor) -> Tensor:
    return logprobs.gather(-1, tokens[:, None])[:, 0]
