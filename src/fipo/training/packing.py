"""Rollouts as the tensors of a training step, built once: old and new log-probs come from the same packs."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fipo.rollout.groups import Group


@dataclass(frozen=True, kw_only=True)
class Pack:
    """One micro-batch: what a single forward and backward pass sees.

    Rows are padded on the right, where causal attention never looks, so no attention mask is needed. The
    tokens that are scored are the last K of each row: as many as the longest response of the pack needs.
    """

    input_ids: Tensor  # [B, S] prompt, response, padding
    loss_mask: Tensor  # [B, K] bool, True = trained response token, among the last K columns of input_ids
    advantages: Tensor  # [B]
    rollouts: list[tuple[int, int]]  # (group, member) of each row

    @property
    def scored_ids(self) -> Tensor:
        """[B, K] the tokens whose log-probs the loss needs."""
        return self.input_ids[:, -self.loss_mask.shape[1] :]


@dataclass(frozen=True, kw_only=True)
class _Row:
    rollout: tuple[int, int]
    prompt: list[int]
    response: list[int]
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
    device: torch.device,
) -> list[list[Pack]]:
    """The packs of each mini-batch, `mini_batches` lists of them.

    advantages is [P, G] for P groups. Groups are dealt out in turn, so that a short batch still gives every
    mini-batch its share; with fewer groups than mini-batches the last ones are empty.
    """
    result = []
    for i in range(mini_batches):
        rows = [
            _Row(
                rollout=(g, m),
                prompt=groups[g].prompt_tokens,
                response=response.tokens,
                advantage=float(advantages[g, m]),
                trained=not (mask_truncated and response.truncated),
            )
            for g in range(i, len(groups), mini_batches)
            for m, response in enumerate(groups[g].responses)
        ]
        result.append([_collate(cut, device) for cut in _cut(rows, tokens_per_micro_batch)])
    return result


def _cut(rows: list[_Row], tokens: int) -> list[list[_Row]]:
    """Rows of similar length together, at most `tokens` padded tokens each (one row may exceed that alone)."""
    cuts: list[list[_Row]] = []
    for row in sorted(rows, key=len, reverse=True):
        if cuts and len(cuts[-1][0]) * (len(cuts[-1]) + 1) <= tokens:
            cuts[-1].append(row)
        else:
            cuts.append([row])
    return cuts


def _collate(rows: list[_Row], device: torch.device) -> Pack:
    width = max(len(row) for row in rows)
    scored = width - min(len(row.prompt) for row in rows)
    input_ids = torch.zeros(len(rows), width, dtype=torch.long)
    is_response = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, row in enumerate(rows):
        input_ids[i, : len(row)] = torch.tensor(row.prompt + row.response)
        is_response[i, len(row.prompt) : len(row)] = row.trained
    return Pack(
        input_ids=input_ids.to(device),
        loss_mask=is_response[:, -scored:].to(device),
        advantages=torch.tensor([row.advantage for row in rows], device=device),
        rollouts=[row.rollout for row in rows],
    )
