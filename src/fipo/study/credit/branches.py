"""True advantages by branches: what comes of other tokens, continued. The truth where no rule gives it."""

import random
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import cast

import torch
from torch import Tensor

from fipo.data.made.relay import decisions
from fipo.rollout.groups import Group, PolicyRoller
from fipo.rollout.sampler import Response
from fipo.rollout.texts import texts_of
from fipo.study.credit.truth import Truth, probabilities_of, rewards_of
from fipo.training.passes.packing import Pack
from fipo.training.trainer import Trainer

Begun = tuple[Group, list[int]]  # the first tokens of a response to the group's problem
Start = tuple[int, int, int]  # group, response of it, how many of its tokens stand
Check = tuple[int, float, float, float]


def rewards_from(trainer: Trainer, begun: Sequence[Begun], seed: int) -> list[float]:
    """1 where what the policy makes of it is right, else 0. It is as long as a response may be, and no longer."""
    roller, table = cast(PolicyRoller, trainer.roller), trainer.recipe.rollout
    ended = [bool(tokens) and tokens[-1] in roller.stop_tokens for _, tokens in begun]
    prompts = [group.prompt_tokens + first for (group, first), end in zip(begun, ended, strict=True) if not end]
    sampled = iter(roller.sampler.sample(prompts, table.params(table.max_response_tokens), seed))
    nothing = Response(tokens=[], logprobs=[], truncated=False)
    more = [nothing if end else next(sampled) for end in ended]
    longest = table.max_response_tokens
    whole = [replace(one, tokens=(first + one.tokens)[:longest]) for (_, first), one in zip(begun, more, strict=True)]
    texts = texts_of(whole, roller.tokenizer, roller.stop_tokens)
    grades = roller.grade([(text, group.problem) for text, (group, _) in zip(texts, begun, strict=True)])
    return [float(grade.correct) for grade in grades]


def truth_by_branches(trainer: Trainer, pack: Pack, groups: Sequence[Group], branches: int, seed: int) -> Truth:
    """V(s_t) = p V(s_t+1) + (1 - p) E[R after another token than the response's], from the reward R backwards.

    p is the policy's probability of the response's token, which is sampled at temperature 1 from all tokens. Of
    `branches` continuations of s_t as many as take that token are the response's own, and V(s_t+1) says what becomes of
    them; the others are sampled, branches (1 - p) of them in expectation. Unbiased given the response. A wrong
    response's mistake is its token of the lowest advantage.
    """
    leaving, others = _leaving(trainer, pack, branches, seed)
    rows = [groups[g].responses[m].tokens for g, m in pack.rollouts]
    begun = [(groups[pack.rollouts[b][0]], [*rows[b][:i], token]) for (b, i), tokens in others for token in tokens]
    rewards = iter(rewards_from(trainer, begun, seed))
    missed = {place: fmean(next(rewards) for _ in tokens) for place, tokens in others if tokens}

    own = rewards_of(pack, groups)
    values, advantages = torch.zeros(pack.loss_mask.shape), torch.zeros(pack.loss_mask.shape)
    mistakes = torch.zeros_like(pack.loss_mask)
    for b, tokens in enumerate(rows):
        value = float(own[b])
        for i in reversed(range(len(tokens))):
            if (b, i) in missed:
                advantages[b, i] = float(leaving[b, i]) * (value - missed[b, i])
            value -= float(advantages[b, i])
            values[b, i] = value
        mistakes[b, advantages[b].argmin()] = not own[b]
    return Truth(advantages=advantages, values=values, decisions=pack.loss_mask, mistakes=mistakes, rewards=own)


def _leaving(
    trainer: Trainer, pack: Pack, branches: int, seed: int
) -> tuple[Tensor, list[tuple[tuple[int, int], list[int]]]]:
    """What the drawn ones stand for, [B, K]; and of each token, by row and column, the others that were drawn.

    They stand for 1 - p. Where less than one branch is expected to leave, one does with that probability, and stands
    for 1 / branches.
    """
    generator = torch.Generator().manual_seed(seed)
    own, probabilities = pack.tokens.cpu()[:, None], probabilities_of(trainer.model, pack).cpu()
    expected = branches * (1 - probabilities.gather(1, own)[:, 0])
    counts = (expected + torch.rand(expected.shape, generator=generator)).long()
    remaining = probabilities.scatter(1, own, 0.0).repeat_interleave(counts, 0)
    drawn = iter(remaining.multinomial(1, generator=generator)[:, 0].tolist())
    leaving = torch.zeros(pack.loss_mask.shape)
    leaving[pack.loss_mask] = expected.clamp(min=1) / branches
    places = zip(pack.loss_mask.nonzero().tolist(), counts.tolist(), strict=True)
    return leaving, [((b, i), [next(drawn) for _ in range(n)]) for (b, i), n in places]


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
    begun = [(groups[g], groups[g].responses[m].tokens[:end]) for g, m, end in unknown for _ in range(branches)]
    rewards = iter(rewards_from(trainer, begun, seed))
    means = [fmean(next(rewards) for _ in range(branches)) if value is None else value for value in certain]
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
