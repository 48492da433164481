"""A learned V(s_t): a small head on the policy's hidden states, fitted to the rewards of what the run trains on."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from transformers import PreTrainedModel

from fipo.objective import future_kl
from fipo.rollout.groups import Group
from fipo.study.credit.truth import hidden_states, rewards_of
from fipo.training.passes.packing import Pack

WIDTH = 64
LEARNING_RATE = 3e-3
EPOCHS = 4
BATCH = 2048  # tokens
LAMBDA = 0.95  # of generalised advantage estimation


class Critic:
    """The probability that the response will be right, before each token."""

    def __init__(self, hidden: int, seed: int) -> None:
        torch.manual_seed(seed)
        self.head = nn.Sequential(nn.Linear(hidden, WIDTH), nn.GELU(), nn.Linear(WIDTH, 1))
        self.optimizer = torch.optim.AdamW(self.head.parameters(), lr=LEARNING_RATE)

    def fit(self, model: PreTrainedModel, packs: Sequence[Pack], groups: Sequence[Group], seed: int) -> None:
        """Some epochs over the tokens of one step's responses; it goes on from the step before."""
        states = torch.cat([hidden_states(model, pack) for pack in packs])
        wanted = torch.cat([_rewards(pack, groups) for pack in packs])
        generator = torch.Generator().manual_seed(seed)
        for _ in range(EPOCHS):
            for chosen in torch.randperm(len(states), generator=generator).split(BATCH):
                loss = binary_cross_entropy_with_logits(self.head(states[chosen])[:, 0], wanted[chosen])
                self.optimizer.zero_grad()
                loss.backward()
                self.optimizer.step()

    @torch.no_grad()
    def values(self, model: PreTrainedModel, pack: Pack) -> Tensor:
        """[B, K] before each trained token, 0 off the mask."""
        values = self.head(hidden_states(model, pack))[:, 0].sigmoid()
        return torch.zeros(pack.loss_mask.shape).masked_scatter(pack.loss_mask, values)


def gae(values: Tensor, rewards: Tensor, loss_mask: Tensor) -> Tensor:
    """[B, K] sum over h of LAMBDA^h (V(s_(t+h+1)) - V(s_(t+h))), with R for the value at the end; 0 off the mask.

    values: [B, K]. rewards: [B]. loss_mask: [B, K] bool, without holes. Source: arXiv 1506.02438, with gamma = 1.
    """
    lengths = loss_mask.sum(1)
    after = torch.cat([values[:, 1:], torch.zeros(len(lengths), 1)], 1)
    after[torch.arange(len(lengths)), lengths - 1] = rewards
    return future_kl(torch.where(loss_mask, after - values, 0.0), math.log(0.5) / math.log(LAMBDA))


def _rewards(pack: Pack, groups: Sequence[Group]) -> Tensor:
    """[M] that of each trained token's response."""
    return rewards_of(pack, groups).repeat_interleave(pack.loss_mask.sum(1))
