"""One checkpoint: its own DAPO run up to the measured step, and what is found there."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fipo.data.made.relay import questions_of, relay
from fipo.models.loading import load
from fipo.rollout.groups import Group
from fipo.seeding import derive_seed
from fipo.study.credit.branches import branch_checks
from fipo.study.credit.critic import Critic
from fipo.study.credit.design import Cell, Sampling
from fipo.study.credit.gradients import cosines, target_gradient
from fipo.study.credit.learner import MICRO_BATCH, Learner, advantages_of, members
from fipo.study.credit.moments import moments
from fipo.study.credit.signals import Measured, weights
from fipo.study.credit.truth import relay_truth
from fipo.training.passes.logprobs import old_scores

WHOLE = 10**9  # tokens: everything in one pack
Record = dict[str, Any]


def measure(sampling: Sampling, cell: Cell, number: int) -> Record:
    """The record of checkpoint `number` of a cell."""
    seed, steps = cell.first_seed + number, sampling.steps[number % len(sampling.steps)]
    learner = Learner(sampling, cell, seed)
    critic = Critic(learner.model.config.hidden_size, derive_seed(seed, "critic"))
    for step in range(1, steps):
        groups = learner.mixed(_groups_per_step(sampling, cell), sampling.group_size, "train", step)
        _fit(critic, learner, groups, step)
        spreads = [learner.train(groups, advantages_of(groups)) for _ in range(2 if cell.kind == "two epochs" else 1)]
        learner.steer(spreads[0])
    return {"number": number, "seed": seed, "step": steps} | _measured(learner, critic, steps)


def _groups_per_step(sampling: Sampling, cell: Cell) -> int:
    return cell.mini_batches * cell.responses // sampling.group_size


def _fit(critic: Critic, learner: Learner, groups: Sequence[Group], step: int) -> None:
    [packs] = learner.packed(groups, advantages_of(groups), 1, MICRO_BATCH)
    critic.fit(learner.model, packs, groups, derive_seed(learner.seed, "critic", step))


def _measured(learner: Learner, critic: Critic, step: int) -> Record:
    sampling, cell, model = learner.sampling, learner.cell, learner.model
    groups, advantages, trained, their_advantages = _sampled(learner, step)
    _fit(critic, learner, trained, step)
    [[pack]] = learner.packed(groups, advantages, 1, WHOLE)
    old = old_scores(model, [pack], 1.0, lambda: None, entropy=False)[0].logprobs
    truth = relay_truth(model, learner.roller.tokenizer, pack, groups)
    values = critic.values(model, pack)
    checks = branch_checks(learner, pack, groups, truth, step)
    learning_rate = learner.learning_rate
    learner.train(trained, their_advantages)

    new = old_scores(model, [pack], 1.0, lambda: None, entropy=False)[0].logprobs
    base = old_scores(load(cell.model)[0], [pack], 1.0, lambda: None, entropy=False)[0].logprobs
    measured = Measured(
        log_ratio=new - old,
        reference_ratio=new - base,
        advantages=pack.advantages[:, None].expand_as(old) * pack.loss_mask,
        truth=truth.advantages,
        values=truth.values,
        critic=values,
        rewards=truth.rewards,
        loss_mask=pack.loss_mask,
    )
    kl = measured.future_kl()[pack.loss_mask]
    sets = weights(measured, sampling.shuffles, derive_seed(learner.seed, "shuffles"))
    return {
        "learning_rate": learning_rate,
        "spread": float(kl.std()),
        "accuracy": _accuracy(learner, step),
        "tokens": int(pack.loss_mask.sum()),
        "malformed": int((truth.decisions.sum(1) != 4).sum()),
        "groups": [
            moments(measured, truth.first_mistakes(), [b for b, (g, _) in enumerate(pack.rollouts) if g == group])
            for group in range(len(groups))
        ],
        "cosines": cosines(model, pack, old, sets, _target(learner, step)),
        "branches": checks,
    }


def _sampled(learner: Learner, step: int) -> tuple[list[Group], Tensor, list[Group], Tensor]:
    """(measured groups, their advantages, groups that are trained on, theirs)."""
    sampling, cell, size = learner.sampling, learner.cell, learner.sampling.group_size
    if cell.kind == "siblings":
        whole = learner.mixed(sampling.groups, 2 * size, "measured", step)
        advantages = advantages_of(whole)
        groups, others = [members(g, slice(size)) for g in whole], [members(g, slice(size, None)) for g in whole]
        more = learner.mixed(max(1, _groups_per_step(sampling, cell) - len(others)), size, "train", step)
        return groups, advantages[:, :size], [*others, *more], torch.cat([advantages[:, size:], advantages_of(more)])
    trained = learner.mixed(_groups_per_step(sampling, cell), size, "train", step)
    if cell.kind == "two epochs":
        groups = trained[: sampling.groups]
    else:
        groups = learner.mixed(sampling.groups, size, "measured", step)
    return groups, advantages_of(groups), trained, advantages_of(trained)


def _target(learner: Learner, step: int) -> Tensor:
    """The gradient of the reward at the policy after the updates, from responses of that policy."""
    problems = relay(
        "train",
        min(learner.sampling.target_problems, len(questions_of("train"))),
        derive_seed(learner.seed, "target", step),
        filler=learner.cell.filler,
    )
    groups = learner.sample(problems, 2, "target", step)
    [packs] = learner.packed(groups, torch.zeros(len(groups), 2), 1, MICRO_BATCH)
    truths = [relay_truth(learner.model, learner.roller.tokenizer, pack, groups).advantages for pack in packs]
    return target_gradient(learner.model, packs, truths)


def _accuracy(learner: Learner, step: int) -> float:
    """Share of right responses to problems as they come, under the policy after the updates."""
    problems = relay("eval", 128, learner.seed, filler=learner.cell.filler)
    groups = learner.sample(problems, 2, "accuracy", step)
    return sum(grade.correct for group in groups for grade in group.grades) / (2 * len(problems))
