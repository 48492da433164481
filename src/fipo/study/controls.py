"""Weights in place of FIPO's: most keep a side effect and lose the credit, so what they achieve is no credit.

And the opposite, advantages of single tokens: the true ones of relays, which show what credit could achieve, and those
of a learned critic.
"""

import math
from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import PreTrainedModel

from fipo.data.made.relay import block_rates, true_advantages
from fipo.errors import UserError
from fipo.objective import FIPOConfig, bounded_weights, fipo_influence, future_kl, participating
from fipo.rollout.groups import Group, GroupBatch
from fipo.seeding import derive_seed
from fipo.study.credit.critic import Critic, gae
from fipo.study.credit.design import USUAL_SPREAD
from fipo.study.credit.policy import packed
from fipo.training.control import Control
from fipo.training.trainer import Trainer


def shuffled(log_ratio: Tensor, advantages: Tensor, loss_mask: Tensor, cfg: FIPOConfig) -> Tensor:
    """FIPO's weights, [B, T], each response's on other tokens of it: the same spread, no credit.

    The order is a function of the response's own log-ratios, so it does not depend on how a mini-batch is cut.
    """
    f = fipo_influence(log_ratio, advantages, loss_mask, cfg)
    for weights, shifts, mask in zip(f, log_ratio, loss_mask, strict=True):
        trained = shifts[mask]
        generator = torch.Generator().manual_seed(derive_seed(0, str(trained.tolist())))
        weights[mask] = weights[mask][torch.randperm(len(trained), generator=generator).to(f.device)]
    return f


def averaged(log_ratio: Tensor, advantages: Tensor, loss_mask: Tensor, cfg: FIPOConfig) -> Tensor:
    """The mean of FIPO's weights over the response, [B, T]: the step size that they add, and no credit."""
    f = fipo_influence(log_ratio, advantages, loss_mask, cfg) * loss_mask
    return (f.sum(1) / loss_mask.sum(1).clamp(min=1))[:, None].expand_as(f)


def past(log_ratio: Tensor, advantages: Tensor, loss_mask: Tensor, cfg: FIPOConfig) -> Tensor:
    """The same scan run forwards, [B, T]: each token weighted by what came before it and itself."""
    moved = participating(log_ratio, loss_mask, cfg.dual_clip)
    kl = future_kl(moved.flip(1), cfg.half_life).flip(1)
    return bounded_weights(kl, log_ratio, advantages, cfg)


def unguarded(log_ratio: Tensor, advantages: Tensor, loss_mask: Tensor, cfg: FIPOConfig) -> Tensor:
    """FIPO's weights without the participation mask and the safety threshold, [B, T] (what the paper's Fig. 2 lacks).

    The dual clip itself stays: it is of the loss, not of the weights.
    """
    return fipo_influence(log_ratio, advantages, loss_mask, replace(cfg, dual_clip=math.inf, safety_threshold=math.inf))


def relay_truth(trainer: Trainer, batch: GroupBatch, advantages: Tensor) -> list[list[list[float]]]:
    """The true advantages of relays on the scale of DAPO's: of rewards +1 and -1, over the group's deviation.

    The blocks' probabilities are those of the step's own responses. Raises UserError for other problems.
    """
    truth = _relay_truth(batch)
    return [
        [[2 * value / _deviation(group) for value in response] for response in responses]
        for group, responses in zip(batch.kept, truth, strict=True)
    ]


def relay_truth_bounded(trainer: Trainer, batch: GroupBatch, advantages: Tensor) -> list[list[list[float]]]:
    """DAPO's advantages A_hat times clip(exp(c sign(A_hat) A)) in (1.0, 1.2), A being the true ones.

    c gives c A the spread that the FutureKL has where the studies look, .15.
    """
    truth = _relay_truth(batch)
    spread = torch.tensor([value for responses in truth for response in responses for value in response]).std()
    c = USUAL_SPREAD / max(float(spread), 1e-9)
    return [
        [
            [a * min(1.2, max(1.0, math.exp(math.copysign(c, a) * value))) for value in response]
            for a, response in zip(row, responses, strict=True)
        ]
        for row, responses in zip(advantages.tolist(), truth, strict=True)
    ]


class LearnedCritic:
    """GAE(.95) of a critic in place of DAPO's advantages, on their scale: of rewards +1 and -1, over the deviation.

    The critic sees a step's responses before it is fitted to them, and begins anew with each policy that is loaded.
    """

    def __init__(self) -> None:
        self.critics: WeakKeyDictionary[PreTrainedModel, Critic] = WeakKeyDictionary()

    def __call__(self, trainer: Trainer, batch: GroupBatch, advantages: Tensor) -> list[list[list[float]]]:
        model, groups, seed = trainer.model, batch.kept, trainer.recipe.run.seed
        if model not in self.critics:
            self.critics[model] = Critic(model.config.get_text_config().hidden_size, derive_seed(seed, "critic"))
        critic = self.critics[model]
        packs = packed(trainer, groups, trainer.recipe.update.tokens_per_micro_batch)
        found: dict[tuple[int, int], list[float]] = {}
        for pack in packs:
            rewards = torch.tensor([float(groups[g].grades[m].correct) for g, m in pack.rollouts])
            rows = gae(critic.values(model, pack), rewards, pack.loss_mask)
            for (g, m), row, mask in zip(pack.rollouts, rows, pack.loss_mask, strict=True):
                found[g, m] = (2 * row[mask] / _deviation(groups[g])).tolist()
        critic.fit(model, packs, groups, derive_seed(seed, "critic", trainer.stream.taken))
        return [[found[g, m] for m in range(len(group.responses))] for g, group in enumerate(groups)]


def _relay_truth(batch: GroupBatch) -> list[list[list[float]]]:
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


CONTROLS = {
    influence.__name__: Control(name=influence.__name__, influence=influence)
    for influence in (shuffled, averaged, past, unguarded)
} | {
    advantages.__name__: Control(name=advantages.__name__, advantages=advantages)
    for advantages in (relay_truth, relay_truth_bounded)
}
CONTROLS["critic"] = Control(name="critic", advantages=LearnedCritic())
