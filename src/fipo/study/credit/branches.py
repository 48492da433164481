"""True values by branches: the share of right responses among continuations. The truth where no rule gives it."""

import random
from collections.abc import Sequence
from dataclasses import replace
from math import log
from typing import cast

import torch

from fipo.data.made.relay import decisions
from fipo.rollout.groups import Group, PolicyRoller
from fipo.rollout.texts import texts_of
from fipo.study.credit.truth import Truth, rewards_of
from fipo.training.passes.packing import Pack
from fipo.training.trainer import Trainer

Start = tuple[int, int, int]  # group, response of it, how many of its tokens stand
Check = tuple[int, float, float, float]
CERTAIN = 0.99  # the probability from which on a token is not in doubt


def values_at(
    trainer: Trainer, groups: Sequence[Group], starts: Sequence[Start], branches: int, seed: int
) -> list[float]:
    """The share of right ones among so many responses that go on from each start. They may be as long as whole ones."""
    roller, table = cast(PolicyRoller, trainer.roller), trainer.recipe.rollout
    begun = [groups[g].responses[m].tokens[:end] for g, m, end in starts for _ in range(branches)]
    problems = [groups[g].problem for g, _, _ in starts for _ in range(branches)]
    prompts = [groups[g].prompt_tokens for g, _, _ in starts for _ in range(branches)]
    params = table.params(table.max_response_tokens)
    responses = roller.sampler.sample([a + b for a, b in zip(prompts, begun, strict=True)], params, seed)
    whole = [replace(one, tokens=first + one.tokens) for first, one in zip(begun, responses, strict=True)]
    texts = texts_of(whole, roller.tokenizer, roller.stop_tokens)
    right = [grade.correct for grade in roller.grade(list(zip(texts, problems, strict=True)))]
    return [sum(right[i : i + branches]) / branches for i in range(0, len(right), branches)]


def branched_truth(trainer: Trainer, pack: Pack, groups: Sequence[Group], branches: int, seed: int) -> Truth:
    """What a response is worth after each token that was in doubt; the others have advantages of 0.

    A token of probability p >= CERTAIN has an advantage of at most 1 - p, less than branches could tell from 0, so that
    one value serves until the next doubt. What several responses of a group begin with is continued once. What the
    others add up to falls to the next token in doubt, and after the last one to none. A wrong response's mistake is the
    token of the lowest advantage, its first token where no advantage is below 0.
    """
    rows = [(g, m, groups[g].responses[m]) for g, m in pack.rollouts]
    doubted = [[i for i, logprob in enumerate(one.logprobs) if logprob < log(CERTAIN)] for _, _, one in rows]
    ends = [[0, *(i + 1 for i in doubts)] for doubts in doubted]
    starts = {
        (g, tuple(one.tokens[:end])): (g, m, end)
        for (g, m, one), own in zip(rows, ends, strict=True)
        for end in own
        if end < len(one.tokens)
    }
    values_of = dict(zip(starts, values_at(trainer, groups, list(starts.values()), branches, seed), strict=True))
    rewards = rewards_of(pack, groups)
    values, advantages = torch.zeros(pack.loss_mask.shape), torch.zeros(pack.loss_mask.shape)
    decisions, mistakes = torch.zeros_like(pack.loss_mask), torch.zeros_like(pack.loss_mask)
    for b, (g, _, one) in enumerate(rows):
        for end in ends[b]:
            value = values_of.get((g, tuple(one.tokens[:end])), float(rewards[b]))
            if end:
                advantages[b, end - 1] = value - values[b, end - 1]
            values[b, end : len(one.tokens)] = value
        decisions[b, doubted[b]] = True
        mistakes[b, advantages[b].argmin()] = not rewards[b]
    return Truth(advantages=advantages, values=values, decisions=decisions, mistakes=mistakes, rewards=rewards)


def branch_checks(
    trainer: Trainer, pack: Pack, groups: Sequence[Group], truth: Truth, *, share: float, branches: int, seed: int
) -> list[Check]:
    """(1 for a digit and 0 for a letter, exact advantage, that of the branches, its variance) of each token checked.

    `share` of the digits of relays, drawn at random, and as many letters where there are any.
    """
    rng = random.Random(seed)
    last = torch.zeros_like(truth.decisions)
    last[torch.arange(len(last)), pack.loss_mask.sum(1) - 1] = True
    digits, letters = truth.decisions.nonzero().tolist(), (pack.loss_mask & ~truth.decisions & ~last).nonzero().tolist()
    count = max(1, round(share * len(digits)))
    chosen = [(1, b, i) for b, i in rng.sample(digits, count)]
    chosen += [(0, b, i) for b, i in rng.sample(letters, min(count, len(letters)))]
    starts = [(*pack.rollouts[b], end) for _, b, i in chosen for end in (i, i + 1)]
    certain = [_certain(trainer, groups, start) for start in starts]
    unknown = [start for start, value in zip(starts, certain, strict=True) if value is None]
    branched = iter(values_at(trainer, groups, unknown, branches, seed))
    means = [next(branched) if value is None else value for value in certain]
    found = []
    for (kind, b, i), v, q in zip(chosen, means[::2], means[1::2], strict=True):
        variance = (v * (1 - v) + q * (1 - q)) / branches
        found.append((kind, float(truth.advantages[b, i]), q - v, variance))
    return found


def _certain(trainer: Trainer, groups: Sequence[Group], start: Start) -> float | None:
    """How a relay that is begun so will end, None where that is open."""
    g, m, end = start
    done = decisions(str(trainer.tokenizer.decode(groups[g].responses[m].tokens[:end])))
    answer = groups[g].problem.answer
    return float(done == answer) if not answer.startswith(done) or done == answer else None
