"""One checkpoint: its own DAPO run up to the measured step, and what is found there."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from fipo.grading.workers.pool import GraderPool
from fipo.models.loading import load
from fipo.rollout.groups import Group
from fipo.seeding import derive_seed
from fipo.study.credit.branches import Check, branch_checks, truth_by_branches
from fipo.study.credit.critic import Critic
from fipo.study.credit.design import Design
from fipo.study.credit.gradients import cosines, target_gradient
from fipo.study.credit.moments import moments
from fipo.study.credit.policy import WHOLE, begin, mixed, packed, recipe_of, steered, step_of
from fipo.study.credit.signals import Measured, weights
from fipo.study.credit.truth import Truth, exact_truth, rewards_of
from fipo.telemetry.clock import Clock
from fipo.training.passes.logprobs import old_scores
from fipo.training.passes.packing import Pack
from fipo.training.trainer import Trainer

SIBLINGS = 8  # responses to a problem of the target where there are no exact advantages
Record = dict[str, Any]


def measure(design: Design, name: str, number: int, graders: GraderPool) -> Record:
    """The record of checkpoint `number` of the cell `name`."""
    cell, sampling = design.cells[name], design.credit
    seed, last = cell.first_seed + number, sampling.steps[number % len(sampling.steps)]
    trainer = begin(recipe_of(design, cell, seed), graders)
    critic = Critic(trainer.model.config.get_text_config(decoder=True).hidden_size, derive_seed(seed, "critic"))
    for step in range(1, last):
        record = step_of(trainer, step)
        critic.fit(trainer.model, [one.pack for o in record.outcomes for one in o.packs], record.batch.kept, step)
        trainer = steered(trainer, record, cell.trained_spread)
    found = _measured(design, name, trainer, critic, last)
    return {"number": number, "seed": seed, "step": last, "learning_rate": trainer.recipe.update.learning_rate} | found


def _measured(design: Design, name: str, trainer: Trainer, critic: Critic, step: int) -> Record:
    sampling, model = design.credit, trainer.model
    before = _copied(trainer)
    groups = _groups(design, name, trainer, step)  # the step's updates are in it
    [pack] = packed(trainer, groups, WHOLE)
    new = _logprobs(trainer, pack)
    with _weights(trainer, before):
        old = _logprobs(trainer, pack)
        truth, checks = _truth(design, name, trainer, pack, groups, step)
        values = critic.values(model, pack)
    base = load(trainer.recipe.model.path)[0]
    with _weights(trainer, base.state_dict()):
        reference = _logprobs(trainer, pack)
    measured = Measured(
        log_ratio=new - old,
        reference_ratio=new - reference,
        advantages=pack.advantages[:, None].expand_as(old) * pack.loss_mask,
        truth=truth.advantages,
        values=truth.values,
        critic=values,
        rewards=truth.rewards,
        loss_mask=pack.loss_mask,
    )
    sets = dict(weights(measured, sampling.shuffles, derive_seed(trainer.recipe.run.seed, "shuffles")))
    parts = packed(trainer, groups, trainer.recipe.update.tokens_per_micro_batch)
    return {
        "spread": float(measured.future_kl()[pack.loss_mask].std()),
        "tokens": int(pack.loss_mask.sum()),
        "groups": [
            moments(measured, truth.mistakes, [b for b, (g, _) in enumerate(pack.rollouts) if g == group])
            for group in range(len(groups))
        ],
        "cosines": cosines(model, pack, parts, old, sets, _target(design, name, trainer, step)),
        "branches": checks,
    }


def _groups(design: Design, name: str, trainer: Trainer, step: int) -> list[Group]:
    """The measured groups, of the policy before the step; and the step itself."""
    cell, count = design.cells[name], design.credit.groups
    if cell.kind == "two epochs":
        return step_of(trainer, step).batch.kept[:count]
    taken = trainer.stream.taken
    groups = mixed(trainer, count, step)
    if cell.kind == "siblings":
        trainer.stream.taken = taken  # the step begins with the same problems
    step_of(trainer, step)
    return groups


def _truth(
    design: Design, name: str, trainer: Trainer, pack: Pack, groups: Sequence[Group], step: int
) -> tuple[Truth, list[Check]]:
    """Exact for relays, with some tokens checked by branches; by branches for other tasks."""
    sampling = design.credit
    seed = derive_seed(trainer.recipe.run.seed, "checked", step)
    if not design.cells[name].exact:
        return truth_by_branches(trainer, pack, groups, sampling.branches, seed), []
    truth = exact_truth(trainer.model, trainer.tokenizer, pack, groups)
    checks = branch_checks(trainer, pack, groups, truth, share=sampling.checked, branches=sampling.branches, seed=seed)
    return truth, checks


def _target(design: Design, name: str, trainer: Trainer, step: int) -> Tensor:
    """The gradient of the reward at the policy after the updates, from responses of that policy.

    Of relays by the true advantages of two responses to a problem, else by the rewards of several, each less the mean
    of the others: the same in expectation.
    """
    seed = derive_seed(trainer.recipe.run.seed, "target", step)
    problems = random.Random(seed).sample(list(trainer.stream.problems), design.credit.target_problems)
    table = trainer.recipe.rollout
    exact = design.cells[name].exact
    size = 2 if exact else SIBLINGS
    groups = trainer.roller.groups(problems, size, table.params(table.max_response_tokens), seed, Clock())
    packs = packed(trainer, groups, trainer.recipe.update.tokens_per_micro_batch)
    if exact:
        advantages = [exact_truth(trainer.model, trainer.tokenizer, pack, groups).advantages for pack in packs]
    else:
        advantages = [_less_the_others(pack, groups) for pack in packs]
    return target_gradient(trainer.model, packs, advantages)


def _less_the_others(pack: Pack, groups: Sequence[Group]) -> Tensor:
    """[B, K] the reward of a token's response less the mean of the others of its problem."""
    right = torch.tensor([sum(grade.correct for grade in groups[g].grades) for g, _ in pack.rollouts])
    others = torch.tensor([len(groups[g].grades) - 1 for g, _ in pack.rollouts])
    own = rewards_of(pack, groups)
    return ((own - (right - own) / others)[:, None]) * pack.loss_mask


def _logprobs(trainer: Trainer, pack: Pack) -> Tensor:
    return old_scores(trainer.model, [pack], 1.0, trainer.beat, entropy=False)[0].logprobs


def _copied(trainer: Trainer) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


@contextmanager
def _weights(trainer: Trainer, weights: dict[str, Tensor]) -> Iterator[None]:
    """The model with other weights while inside."""
    own = _copied(trainer)
    trainer.model.load_state_dict(weights)
    try:
        yield
    finally:
        trainer.model.load_state_dict(own)
