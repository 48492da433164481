"""The exact advantages of some tokens, against the mean reward of continuations from either side of them."""

import random
from collections.abc import Sequence

import torch

from fipo.data.made.relay import grade_relay
from fipo.rollout.groups import Group
from fipo.seeding import derive_seed
from fipo.study.credit.learner import Learner
from fipo.study.credit.truth import Truth
from fipo.training.passes.packing import Pack


def branch_checks(
    learner: Learner, pack: Pack, groups: Sequence[Group], truth: Truth, step: int
) -> list[tuple[int, float, float, float]]:
    """(1 for a decision and 0 for a letter, exact advantage, that of the branches, its variance) of each token checked.

    The design's share of the decisions, drawn at random, and as many letters where there are any.
    """
    rng = random.Random(derive_seed(learner.seed, "checked", step))
    places = [tuple(place) for place in truth.decisions.nonzero().tolist()]
    going_on = torch.cat([pack.loss_mask[:, 1:], torch.zeros(len(pack.loss_mask), 1, dtype=torch.bool)], 1)
    letters = [tuple(place) for place in (going_on & ~truth.decisions).nonzero().tolist()]
    count = max(1, round(learner.sampling.checked * len(places)))
    chosen = [(1, *place) for place in rng.sample(places, count)]
    chosen += [(0, *place) for place in rng.sample(letters, min(count, len(letters)))]
    starts = [(b, end) for _, b, i in chosen for end in (i, i + 1)]  # V(s) and Q(s, a)
    means = _continued(learner, pack, groups, starts, step)
    branches = learner.sampling.branches
    found = []
    for n, (kind, b, i) in enumerate(chosen):
        v, q = means[2 * n], means[2 * n + 1]
        variance = (v * (1 - v) + q * (1 - q)) / branches
        found.append((kind, float(truth.advantages[b, i]), q - v, variance))
    return found


def _continued(
    learner: Learner, pack: Pack, groups: Sequence[Group], starts: Sequence[tuple[int, int]], step: int
) -> list[float]:
    """Share of right responses among those that go on from the first `end` tokens of row b, for each (b, end)."""
    branches, prompts, asked = learner.sampling.branches, [], []
    for b, end in starts:
        g, m = pack.rollouts[b]
        begun = groups[g].responses[m].tokens[:end]
        prompts += branches * [groups[g].prompt_tokens + begun]
        asked += branches * [(groups[g].problem, begun)]
    responses = learner.roller.sampler.sample(prompts, learner.params, derive_seed(learner.seed, "branches", step))
    texts = learner.roller.tokenizer.batch_decode(
        [begun + response.tokens for (_, begun), response in zip(asked, responses, strict=True)],
        skip_special_tokens=True,
    )
    right = [grade_relay(text, problem).correct for text, (problem, _) in zip(texts, asked, strict=True)]
    return [sum(right[i : i + branches]) / branches for i in range(0, len(right), branches)]
