"""True advantages, and those of relays: exact, from the policy's own probabilities of the right digits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fipo.data.made.relay import BLOCKS, DIGITS
from fipo.rollout.groups import Group
from fipo.training.passes.packed_attention import forward
from fipo.training.passes.packing import Pack


@dataclass(frozen=True, kw_only=True)
class Truth:
    """With R = 1 for a right response and 0 for a wrong one, under the policy that was asked."""

    advantages: Tensor  # [B, K] Q(s_t, a_t) - V(s_t): 0 but on `decisions`
    values: Tensor  # [B, K] V(s_t), before the token
    decisions: Tensor  # [B, K] bool, all whose advantage may differ from 0
    mistakes: Tensor  # [B, K] bool, in wrong responses the token that made them so
    rewards: Tensor  # [B]


@torch.no_grad()
def hidden_states(model: PreTrainedModel, pack: Pack) -> Tensor:
    """[M, H] what the output layer sees before each trained token."""
    out = forward(model.get_decoder(), model, pack.input_ids, pack.segments)
    states: Tensor = out.last_hidden_state.flatten(0, 1)[pack.before]
    return states


@torch.no_grad()
def probabilities_of(model: PreTrainedModel, pack: Pack) -> Tensor:
    """[M, V] of all tokens where each trained one stands, at temperature 1."""
    probabilities: Tensor = model.get_output_embeddings()(hidden_states(model, pack)).softmax(-1)
    return probabilities


@torch.no_grad()
def exact_truth(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pack: Pack, groups: Sequence[Group]
) -> Truth:
    """By a product over blocks: V = [right so far] x the probability that each block to come is right.

    That of the block at hand is the policy's own at this digit, given that a digit comes; of the blocks to come it is
    the mean over the group's responses that were right so far, as nobody knows the letters yet.
    """
    digits = torch.tensor(tokenizer.convert_tokens_to_ids(list(DIGITS)))
    probabilities = probabilities_of(model, pack)[:, digits]
    tokens = _rows(pack, pack.tokens)
    shares = _rows(pack, probabilities / probabilities.sum(-1, keepdim=True))
    places = [torch.isin(row, digits).nonzero()[:, 0][:BLOCKS] for row in tokens]
    wanted = [[int(character) for character in groups[g].problem.answer] for g, _ in pack.rollouts]
    right = [
        [int(row[i]) == int(digits[w]) for i, w in zip(at, want, strict=False)]
        for row, at, want in _zip(tokens, places, wanted)
    ]
    own = [[float(row[i, w]) for i, w in zip(at, want, strict=False)] for row, at, want in _zip(shares, places, wanted)]
    expected = _expected(pack.rollouts, own, right)

    shape = pack.loss_mask.shape
    advantages, values, decisions = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape, dtype=torch.bool)
    for b, (g, _) in enumerate(pack.rollouts):
        begin, still = 0, 1.0
        for j, i in enumerate(places[b].tolist()):
            rest = float(torch.tensor(expected[g][j + 1 :]).prod())
            values[b, begin:i] = still * expected[g][j] * rest
            values[b, i] = still * own[b][j] * rest
            still *= float(right[b][j])
            advantages[b, i] = still * rest - values[b, i]
            decisions[b, i] = True
            begin = i + 1
        values[b, begin:] = still
    wrong = decisions & (advantages < 0)
    return Truth(
        advantages=advantages,
        values=values * pack.loss_mask,
        decisions=decisions,
        mistakes=wrong & (wrong.cumsum(1) == 1),
        rewards=rewards_of(pack, groups),
    )


def rewards_of(pack: Pack, groups: Sequence[Group]) -> Tensor:
    """[B] 1 for a right response, 0 for a wrong one."""
    return torch.tensor([float(groups[g].grades[m].correct) for g, m in pack.rollouts])


def _rows(pack: Pack, per_token: Tensor) -> list[Tensor]:
    return list(per_token.split(pack.loss_mask.sum(1).tolist()))


def _zip(*rows: Sequence[Any]) -> list[tuple[Any, ...]]:
    return list(zip(*rows, strict=True))


def _expected(
    rollouts: Sequence[tuple[int, int]], own: Sequence[Sequence[float]], right: Sequence[Sequence[bool]]
) -> dict[int, list[float]]:
    """By group: the probability that each block is right, before it is reached."""
    found: dict[int, list[float]] = {}
    for group in {g for g, _ in rollouts}:
        rows = [b for b, (g, _) in enumerate(rollouts) if g == group]
        found[group] = []
        for j in range(BLOCKS):
            reached = [b for b in rows if len(own[b]) > j]
            good = [b for b in reached if all(right[b][:j])] or reached
            found[group].append(sum(own[b][j] for b in good) / max(1, len(good)))
    return found
