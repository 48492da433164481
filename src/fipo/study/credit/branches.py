"""The exact advantages of some tokens, against the mean reward of continuations from either side of them."""

import random
from collections.abc import Sequence

import torch

from fipo.data.made.relay import decisions
from fipo.data.problem import Problem
from fipo.rollout.groups import Group
from fipo.seeding import derive_seed
from fipo.study.credit.design import CreditTable
from fipo.study.credit.truth import Truth
from fipo.telemetry.clock import Clock
from fipo.training.passes.packing import Pack
from fipo.training.trainer import Trainer

Check = tuple[int, float, float, float]


def branch_checks(
    sampling: CreditTable, trainer: Trainer, pack: Pack, groups: Sequence[Group], truth: Truth, step: int
) -> list[Check]:
    """(1 for a digit and 0 for a letter, exact advantage, that of the branches, its variance) of each token checked.

    The design's share of the digits, drawn at random, and as many letters where there are any.
    """
    seed = derive_seed(trainer.recipe.run.seed, "checked", step)
    rng = random.Random(seed)
    last = torch.zeros_like(truth.decisions)
    last[torch.arange(len(last)), pack.loss_mask.sum(1) - 1] = True
    digits, letters = truth.decisions.nonzero().tolist(), (pack.loss_mask & ~truth.decisions & ~last).nonzero().tolist()
    count = max(1, round(sampling.checked * len(digits)))
    chosen = [(1, b, i) for b, i in rng.sample(digits, count)]
    chosen += [(0, b, i) for b, i in rng.sample(letters, min(count, len(letters)))]
    starts = [_continued(trainer, groups, pack.rollouts[b], end) for _, b, i in chosen for end in (i, i + 1)]
    means = _means(sampling.branches, trainer, starts, seed)
    found = []
    for (kind, b, i), v, q in zip(chosen, means[::2], means[1::2], strict=True):
        variance = (v * (1 - v) + q * (1 - q)) / sampling.branches
        found.append((kind, float(truth.advantages[b, i]), q - v, variance))
    return found


def _continued(trainer: Trainer, groups: Sequence[Group], rollout: tuple[int, int], end: int) -> Problem | float:
    """What is left to do after the first `end` tokens; or how it will end, where that is certain."""
    group, member = groups[rollout[0]], rollout[1]
    begun = str(trainer.tokenizer.decode(group.responses[member].tokens[:end]))
    done, answer = decisions(begun), group.problem.answer
    if not answer.startswith(done) or done == answer:
        return float(done == answer)
    prompt = f"{group.problem.prompt}{begun}"
    return Problem(id=prompt, prompt=prompt, answer=answer[len(done) :], source=group.problem.source)


def _means(branches: int, trainer: Trainer, starts: Sequence[Problem | float], seed: int) -> list[float]:
    """The share of right responses among those that go on from each start."""
    table, open_ = trainer.recipe.rollout, [start for start in starts if isinstance(start, Problem)]
    groups = iter(trainer.roller.groups(open_, branches, table.params(table.max_response_tokens), seed, Clock()))
    return [
        sum(grade.correct for grade in next(groups).grades) / branches if isinstance(start, Problem) else start
        for start in starts
    ]
