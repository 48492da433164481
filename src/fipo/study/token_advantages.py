"""Advantages of single tokens in place of DAPO's: the true ones, which show what credit could achieve, or a critic's.

All on the scale of DAPO's: of rewards +1 and -1, over the group's deviation.
"""

import math
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fipo.data.made.relay import block_rates, true_advantages
from fipo.errors import UserError
from fipo.rollout.groups import Group, GroupBatch
from fipo.seeding import derive_seed
from fipo.study.credit import branches
from fipo.study.credit.critic import Critic, gae
from fipo.study.credit.design import USUAL_SPREAD
from fipo.study.credit.policy import WHOLE, packed
from fipo.study.credit.truth import rewards_of
from fipo.training.trainer import Trainer

PerToken = list[list[list[float]]]  # of each kept group, response and token
BRANCHES = 8  # due at each token; those that leave the response there are sampled


def relay_truth(trainer: Trainer, batch: GroupBatch, advantages: Tensor) -> PerToken:
    """The true advantages of relays, of the blocks' probabilities in the step's own responses.

    Raises UserError for other problems.
    """
    return _scaled(batch, _of_relays(batch))


def relay_truth_bounded(trainer: Trainer, batch: GroupBatch, advantages: Tensor) -> PerToken:
    """DAPO's advantages A_hat times clip(exp(c sign(A_hat) A)) in (1.0, 1.2), A being the true ones of relays.

    c gives c A the spread that the FutureKL has where the studies look, .15.
    """
    return _bounded(advantages, _of_relays(batch))


def branched_truth(trainer: Trainer, batch: GroupBatch, advantages: Tensor) -> PerToken:
    """True advantages of any task, by 8 branches (see `fipo.study.credit.branches`).

    Raises UserError where the policy does not sample at temperature 1 from all tokens.
    """
    return _scaled(batch, _of_branches(trainer, batch))


def branched_truth_bounded(trainer: Trainer, batch: GroupBatch, advantages: Tensor) -> PerToken:
    """As `relay_truth_bounded`, of any task, by 8 branches."""
    return _bounded(advantages, _of_branches(trainer, batch))


class LearnedCritic:
    """GAE(.95) of a critic, which sees a step's responses before it is fitted to them.

    It begins anew with each policy that is loaded.
    """

    def __init__(self) -> None:
        self.critics: WeakKeyDictionary[PreTrainedModel, Critic] = WeakKeyDictionary()

    def __call__(self, trainer: Trainer, batch: GroupBatch, advantages: Tensor) -> PerToken:
        model, groups, seed = trainer.model, batch.kept, trainer.recipe.run.seed
        if not groups:
            return []
        if model not in self.critics:
            self.critics[model] = Critic(model.config.get_text_config().hidden_size, derive_seed(seed, "critic"))
        critic = self.critics[model]
        packs = packed(trainer, groups, trainer.recipe.update.tokens_per_micro_batch)
        found: dict[tuple[int, int], list[float]] = {}
        for pack in packs:
            rows = gae(critic.values(model, pack), rewards_of(pack, groups), pack.loss_mask)
            for (g, m), row, mask in zip(pack.rollouts, rows, pack.loss_mask, strict=True):
                found[g, m] = row[mask].tolist()
        critic.fit(model, packs, groups, derive_seed(seed, "critic", trainer.stream.taken))
        return _scaled(batch, [[found[g, m] for m in range(len(group.responses))] for g, group in enumerate(groups)])


def _scaled(batch: GroupBatch, truth: PerToken) -> PerToken:
    return [
        [[2 * value / _deviation(group) for value in response] for response in responses]
        for group, responses in zip(batch.kept, truth, strict=True)
    ]


def _bounded(advantages: Tensor, truth: PerToken) -> PerToken:
    spread = torch.tensor([value for responses in truth for response in responses for value in response]).std()
    c = USUAL_SPREAD / max(float(spread), 1e-9)
    return [
        [
            [a * min(1.2, max(1.0, math.exp(math.copysign(c, a) * value))) for value in response]
            for a, response in zip(row, responses, strict=True)
        ]
        for row, responses in zip(advantages.tolist(), truth, strict=True)
    ]


def _of_branches(trainer: Trainer, batch: GroupBatch) -> PerToken:
    """With R = 1 for a right response."""
    table = trainer.recipe.rollout
    if (table.temperature, table.top_p, table.top_k) != (1.0, 1.0, 0):
        raise UserError(
            "a control by branches needs rollout.temperature = 1, top_p = 1 and top_k = 0, "
            f"got {table.temperature:g}, {table.top_p:g} and {table.top_k}"
        )
    if not batch.kept:
        return []
    [pack] = packed(trainer, batch.kept, WHOLE)
    seed = derive_seed(trainer.recipe.run.seed, "branches", trainer.stream.taken)
    truth = branches.truth_by_branches(trainer, pack, batch.kept, BRANCHES, seed)
    rows = dict(zip(pack.rollouts, truth.advantages.tolist(), strict=True))
    return [
        [rows[g, m][: len(response.tokens)] for m, response in enumerate(group.responses)]
        for g, group in enumerate(batch.kept)
    ]


def _of_relays(batch: GroupBatch) -> PerToken:
    """The true advantage of each kept group, response and token, with R = 1 for a right response; its end has 0."""
    if any(group.problem.source != "relay" for group in batch.generated):
        raise UserError("a control by true advantages needs relays: data.train.source must be relay")
    rates = block_rates((text, group.problem.answer) for group in batch.generated for text in group.texts)
    return [
        [
            (true_advantages(text, group.problem.answer, rates) + [0.0] * len(response.tokens))[: len(response.tokens)]
            for text, response in zip(group.texts, group.responses, strict=True)
        ]
        for group in batch.kept
    ]


def _deviation(group: Group) -> float:
    """The standard deviation of rewards +1 and -1, unbiased."""
    return float(torch.tensor([1.0 if grade.correct else -1.0 for grade in group.grades]).std())
