"""Dynamic sampling (DAPO, arXiv 2503.14476, section 3.2): which groups are trained on, and their rows moved about."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle, islice
from typing import Any

import torch
from torch import Tensor
from trl.trainer.utils import pad

# What TRL gives for a generation batch of text. An unknown key could be anything, so it is refused.
PER_TOKEN = ("tool_mask", "sampling_per_token_logps")  # of completions; not always there
PER_ROW = {"prompt_ids", "prompt_mask", "completion_ids", "completion_mask", "advantages", *PER_TOKEN}
NOT_READ = {"num_items_in_batch"}


@dataclass(frozen=True, kw_only=True)
class UnpaddedRow:
    """One sequence without padding, on the CPU, so that it can go to another process."""

    prompt: Tensor  # [P] int64
    completion: Tensor  # [T] int64, T >= 1
    mask: Tensor  # [T] int64, 0 where the sequence ended or was masked as truncated
    more: dict[str, Tensor]  # [T] of PER_TOKEN: 0 for what a tool wrote; the sampler's log-probs
    advantage: float

    def blank(self) -> "UnpaddedRow":
        """A row that fills a batch up: the same prompt, no loss token."""
        nothing = torch.zeros(1, dtype=torch.int64)
        more = {name: values.new_zeros(1) for name, values in self.more.items()}
        return UnpaddedRow(prompt=self.prompt, completion=nothing, mask=nothing, more=more, advantage=0.0)


@dataclass(frozen=True, kw_only=True)
class GroupContrast:
    """What the accuracies say of P groups. Computed from what every process has, so that all of them agree."""

    mixed: Tensor  # [P] bool, success varies
    all_correct: int
    all_wrong: int


def contrast(accuracies: Tensor, group_size: int) -> GroupContrast:
    """The groups of [P * G] accuracies, the members of a group one after the other.

    An accuracy that is NaN (the reward function returned None) says nothing, and its group is not mixed either.
    """
    groups = accuracies.view(-1, group_size)
    constant = (groups == groups[:, :1]).all(dim=1)
    return GroupContrast(
        mixed=~constant & ~groups.isnan().any(dim=1),
        all_correct=int((constant & (groups[:, 0] > 0)).sum()),
        all_wrong=int((constant & (groups[:, 0] <= 0)).sum()),
    )


def rows_of(batch: dict[str, Any], indices: Sequence[int]) -> list[UnpaddedRow]:
    """Some rows of a batch as TRL gives it. Raises ValueError for a batch that is not of text alone."""
    unknown = sorted(set(batch) - PER_ROW - NOT_READ)
    if unknown:
        raise ValueError(f"dynamic_sampling must be off for batches with {', '.join(unknown)}: it moves text alone")
    here = {name: batch[name].cpu() for name in PER_ROW & set(batch)}
    rows = []
    for i in indices:
        length = max(1, int(here["completion_mask"][i].sum()))  # the mask is 1 from the start on
        rows.append(
            UnpaddedRow(
                prompt=here["prompt_ids"][i][here["prompt_mask"][i].bool()],
                completion=here["completion_ids"][i, :length].clone(),
                mask=here["completion_mask"][i, :length].clone(),
                more={name: here[name][i, :length].clone() for name in PER_TOKEN if name in here},
                advantage=float(here["advantages"][i]),
            )
        )
    return rows


def batch_of(
    rows: Sequence[UnpaddedRow], *, pad_token: int, multiple: int | None, device: torch.device
) -> dict[str, Any]:
    """The rows as TRL pads them: prompts on the left, completions on the right."""

    def padded(tensors: list[Tensor], value: int, side: str) -> Tensor:
        return pad(tensors, padding_value=value, padding_side=side, pad_to_multiple_of=multiple).to(device)

    batch = {
        "prompt_ids": padded([row.prompt for row in rows], pad_token, "left"),
        "prompt_mask": padded([torch.ones_like(row.prompt) for row in rows], 0, "left"),
        "completion_ids": padded([row.completion for row in rows], pad_token, "right"),
        "completion_mask": padded([row.mask for row in rows], 0, "right"),
        "advantages": torch.tensor([row.advantage for row in rows], device=device),
    }
    return batch | {name: padded([row.more[name] for row in rows], 0, "right") for name in rows[0].more}


def share_of(rows: Sequence[UnpaddedRow], rank: int, ranks: int, size: int, filler: UnpaddedRow) -> list[UnpaddedRow]:
    """`size` rows for one process: its share of all rows, filled up with rows that train nothing."""
    mine = list(rows[rank::ranks])
    return mine + [filler.blank()] * (size - len(mine))


def further_prompts(
    prompts: Callable[[int], str], count: int, *, seen: set[str], wanted: int, batches: int, seed: int
) -> Iterator[list[int]]:
    """Indices into a dataset of `count` rows, `wanted` for each of `batches` more generation batches.

    In an order that the seed decides. Prompts that were `seen` come again when there are no others left.
    """
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    endless = chain((index for index in order if prompts(index) not in seen), cycle(order))
    for _ in range(batches):
        yield list(islice(endless, wanted))
