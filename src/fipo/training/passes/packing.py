"""Rollouts as the tensors of a training step, built once: old and new log-probs come from the same packs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from fipo.rollout.groups import Group
from fipo.training.passes.segments import LEAST_SHARED, Segment, row_of, spans_of
from fipo.training.policy.mfu import Work

Layout = Literal["padded", "packed"]


@dataclass(frozen=True, kw_only=True)
class Pack:
    """One micro-batch: B sequences that a single forward and backward pass sees.

    padded: a row for each sequence, padded on the right, where causal attention never looks.
    packed: one row without padding, in which what sequences have in common stands once; see segments.py.
    """

    input_ids: Tensor  # [B, S], or [1, S] if packed: prompts and responses
    segments: list[Segment] | None  # of the row if packed
    loss_mask: Tensor  # [B, K] bool, True = trained token; column 0 is the first token of each response
    tokens: Tensor  # [M] the trained tokens, response after response
    before: Tensor  # [M] the place in input_ids.flatten() of the token before each of them
    advantages: Tensor  # [B]
    token_advantages: Tensor | None  # [B, K], 0 off the mask, where a study's control gives tokens their own
    rollout_logprobs: Tensor  # [B, K] float32, what the sampler reported, 0 off the mask
    rollouts: list[tuple[int, int]]  # (group, member) of each sequence
    lengths: list[int]  # of each sequence: prompt and response

    @property
    def work(self) -> list[Work]:
        """What a forward pass has to compute: sequences without their padding, or the segments of the row."""
        if self.segments is None:
            return [(length, 0) for length in self.lengths]
        return [(span.end - span.start, span.past) for span in spans_of(self.segments)]


@dataclass(frozen=True, kw_only=True)
class _Sequence:
    rollout: tuple[int, int]
    prompt: list[int]
    response: list[int]
    logprobs: list[float]
    advantage: float
    token_advantages: list[float] | None
    trained: bool

    def __len__(self) -> int:
        return len(self.prompt) + len(self.response)


def pack(
    groups: Sequence[Group],
    advantages: Tensor,
    *,
    token_advantages: Sequence[Sequence[list[float]]] | None = None,
    mini_batches: int,
    tokens_per_micro_batch: int,
    mask_truncated: bool,
    layout: Layout,
    device: torch.device,
) -> list[list[Pack]]:
    """The packs of each mini-batch, `mini_batches` lists of them.

    advantages is [P, G] for P groups; token_advantages those of each response's tokens. Groups are dealt out in turn,
    so that a short batch still gives every mini-batch its share; with fewer groups than mini-batches the last ones
    are empty.
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
                token_advantages=token_advantages[g][m] if token_advantages else None,
                trained=not (mask_truncated and response.truncated),
            )
            for g in range(i, len(groups), mini_batches)
            for m, response in enumerate(groups[g].responses)
        ]
        result.append([_collate(part, layout, device) for part in cut(sequences, tokens_per_micro_batch)])
    return result


def pack_of(sequences: Sequence[tuple[list[int], list[int]]], layout: Layout, device: torch.device) -> Pack:
    """One pack of (prompt, response) that nobody sampled."""
    made = [
        _Sequence(
            rollout=(i, 0),
            prompt=prompt,
            response=response,
            logprobs=[0.0] * len(response),
            advantage=0.0,
            token_advantages=None,
            trained=True,
        )
        for i, (prompt, response) in enumerate(sequences)
    ]
    return _collate(made, layout, device)


def _cut_padded(sequences: list[_Sequence], tokens: int) -> list[list[_Sequence]]:
    """Similar lengths together, at most `tokens` tokens with padding each (one sequence may exceed that alone)."""
    parts: list[list[_Sequence]] = []
    for sequence in sorted(sequences, key=len, reverse=True):
        if parts and len(parts[-1][0]) * (len(parts[-1]) + 1) <= tokens:
            parts[-1].append(sequence)
        else:
            parts.append([sequence])
    return parts


def _cut_packed(sequences: list[_Sequence], tokens: int) -> list[list[_Sequence]]:
    """Groups stay together as far as at most `tokens` tokens allow (one sequence may exceed them alone).

    Each response keeps a copy of its prompt's keys and values, which takes up to an eighth of a token's memory each.
    """
    parts: list[list[_Sequence]] = []
    size = 0
    for sequence in sequences:
        beside = bool(parts) and parts[-1][-1].prompt == sequence.prompt and len(sequence.prompt) >= LEAST_SHARED
        added = len(sequence.response) + len(sequence.prompt) // 8 if beside else len(sequence)
        if parts and size + added <= tokens:
            parts[-1].append(sequence)
            size += added
        else:
            parts.append([sequence])
            size = len(sequence)
    return parts


def _collate(sequences: list[_Sequence], layout: Layout, device: torch.device) -> Pack:
    segments, before = None, []
    if layout == "padded":
        width = max(map(len, sequences))
        rows = [one.prompt + one.response + [0] * (width - len(one)) for one in sequences]
        input_ids = torch.tensor(rows)
        for i, one in enumerate(sequences):
            first = i * width + len(one.prompt)
            before.append(list(range(first - 1, first - 1 + len(one.response))))
    else:
        row = row_of([(one.prompt, one.response) for one in sequences])
        input_ids = torch.tensor([row.tokens])
        segments, before = row.segments, row.before
    loss_mask = torch.zeros(len(sequences), max(len(s.response) for s in sequences), dtype=torch.bool)
    rollout_logprobs = torch.zeros(loss_mask.shape)
    token_advantages = torch.zeros(loss_mask.shape) if sequences[0].token_advantages is not None else None
    trained = [i for i, sequence in enumerate(sequences) if sequence.trained]
    for i in trained:
        if token_advantages is not None:
            token_advantages[i, : len(sequences[i].response)] = torch.tensor(sequences[i].token_advantages)
        loss_mask[i, : len(sequences[i].response)] = True
        rollout_logprobs[i, : len(sequences[i].response)] = torch.tensor(sequences[i].logprobs)
    return Pack(
        input_ids=input_ids.to(device),
        segments=segments,
        loss_mask=loss_mask.to(device),
        tokens=_tensor([token for i in trained for token in sequences[i].response], device),
        before=_tensor([place for i in trained for place in before[i]], device),
        advantages=torch.tensor([sequence.advantage for sequence in sequences], device=device),
        token_advantages=None if token_advantages is None else token_advantages.to(device),
        rollout_logprobs=rollout_logprobs.to(device),
        rollouts=[sequence.rollout for sequence in sequences],
        lengths=[len(sequence) for sequence in sequences],
    )


def _tensor(values: list[int], device: torch.device) -> Tensor:
    return torch.tensor(values, dtype=torch.long, device=device)
