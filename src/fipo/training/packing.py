"""Rollouts as the tensors of a training step, built once: old and new log-probs come from the same packs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import torch
from torch import Tensor

from fipo.rollout.groups import Group

Layout = Literal["padded", "packed"]


@dataclass(frozen=True, kw_only=True)
class Pack:
    """One micro-batch: B sequences that a single forward and backward pass sees.

    padded: a row for each sequence, padded on the right, where causal attention never looks.
    packed: one row with all sequences, one after the other, no padding; see packed_attention.py.
    """

    input_ids: Tensor  # [B, S], or [1, S] if packed: prompts and responses
    lengths: list[int] | None  # of the sequences if packed
    loss_mask: Tensor  # [B, K] bool, True = trained token; column 0 is the first token of each response
    tokens: Tensor  # [M] the trained tokens, response after response
    before: Tensor  # [M] the place in input_ids.flatten() of the token before each of them
    advantages: Tensor  # [B]
    rollout_logprobs: Tensor  # [B, K] float32, what the sampler reported, 0 off the mask
    rollouts: list[tuple[int, int]]  # (group, member) of each sequence


@dataclass(frozen=True, kw_only=True)
class _Sequence:
    rollout: tuple[int, int]
    prompt: list[int]
    response: list[int]
    logprobs: list[float]
    advantage: float
    trained: bool

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


def pack(
    groups: Sequence[Group],
    advantages: Tensor,
    *,
    mini_batches: int,
    tokens_per_micro_batch: int,
    mask_truncated: bool,
    layout: Layout,
    device: torch.device,
) -> list[list[Pack]]:
    """The packs of each mini-batch, `mini_batches` lists of them.

    advantages is [P, G] for P groups. Groups are dealt out in turn, so that a short batch still gives every
    mini-batch its share; with fewer groups than mini-batches the last ones are empty.
    """
    cut = _cut_padded if layout == "padded" else _cut_packed
    result = []
    for i in range(mini_batches):
        sequences = [
            _Sequence(
                rollout=(g, m),
                prompt=groups[g].prompt_tokens,
                response=response.tokens,
                logprobs=response.logprobs,
                advantage=float(advantages[g, m]),
                trained=not (mask_truncated and response.truncated),
            )
            for g in range(i, len(groups), mini_batches)
            for m, response in enumerate(groups[g].responses)
        ]
        longest_first = sorted(sequences, key=len, reverse=True)
        result.append([_collate(part, layout, device) for part in cut(longest_first, tokens_per_micro_batch)])
    return result


def _cut_padded(longest_first: list[_Sequence], tokens: int) -> list[list[_Sequence]]:
    """Similar lengths together, at most `tokens` tokens with padding each (one sequence may exceed that alone)."""
    parts: list[list[_Sequence]] = []
    for sequence in longest_first:
        if parts and len(parts[-1][0]) * (len(parts[-1]) + 1) <= tokens:
            parts[-1].append(sequence)
        else:
            parts.append([sequence])
    return parts


def _cut_packed(longest_first: list[_Sequence], tokens: int) -> list[list[_Sequence]]:
    """As few parts as it takes, about equally many tokens in each, at most `tokens` (but for one long sequence)."""
    for count in range(-(-sum(map(len, longest_first)) // tokens), len(longest_first) + 1):
        parts: list[list[_Sequence]] = [[] for _ in range(count)]
        sizes = [0] * count
        for sequence in longest_first:
            emptiest = sizes.index(min(sizes))
            parts[emptiest].append(sequence)
            sizes[emptiest] += len(sequence)
        if all(size <= tokens or len(part) == 1 for size, part in zip(sizes, parts, strict=True)):
            return [part for part in parts if part]
    return [[sequence] for sequence in longest_first]


def _collate(sequences: list[_Sequence], layout: Layout, device: torch.device) -> Pack:
    lengths = [len(sequence) for sequence in sequences]
    if layout == "padded":
        width = max(lengths)
        input_ids = torch.zeros(len(sequences), width, dtype=torch.long)
        starts = [i * width for i in range(len(sequences))]
    else:
        input_ids = torch.zeros(1, sum(lengths), dtype=torch.long)
        starts = list(accumulate(lengths, initial=0))[:-1]
    flat = input_ids.view(-1)
    loss_mask = torch.zeros(len(sequences), max(len(s.response) for s in sequences), dtype=torch.bool)
    rollout_logprobs = torch.zeros(loss_mask.shape)
    tokens: list[int] = []
    before: list[int] = []
    for i, (sequence, start) in enumerate(zip(sequences, starts, strict=True)):
        flat[start : start + len(sequence)] = torch.tensor(sequence.prompt + sequence.response)
        if sequence.trained:
            loss_mask[i, : len(sequence.response)] = True
            rollout_logprobs[i, : len(sequence.response)] = torch.tensor(sequence.logprobs)
            tokens += sequence.response
            first = start + len(sequence.prompt)
            before += range(first - 1, first - 1 + len(sequence.response))
    return Pack(
        input_ids=input_ids.to(device),
        lengths=lengths if layout == "packed" else None,
        loss_mask=loss_mask.to(device),
        tokens=torch.tensor(tokens, dtype=torch.long, device=device),
        before=torch.tensor(before, dtype=torch.long, device=device),
        advantages=torch.tensor([sequence.advantage for sequence in sequences], device=device),
        rollout_logprobs=rollout_logprobs.to(device),
        rollouts=[sequence.rollout for sequence in sequences],
    )
