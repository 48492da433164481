"""Groups of graded responses, and dynamic sampling: batches of groups in which the reward of grading varies.

Source of dynamic sampling: DAPO (arXiv 2503.14476), section 3.2.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Protocol

from transformers import PreTrainedTokenizerBase

from fipo.data.problem import Problem
from fipo.grading.grade import Grade
from fipo.grading.outcomes import failure_line, varies
from fipo.rollout.prompts import Prompting, as_asked, encode
from fipo.rollout.sampler import Response, Sampler, SamplingParams
from fipo.rollout.table import RolloutTable
from fipo.rollout.texts import texts_of
from fipo.seeding import derive_seed
from fipo.telemetry.clock import Clock


@dataclass(frozen=True, kw_only=True)
class Group:
    """One problem and its G graded responses."""

    problem: Problem
    prompt_tokens: list[int]
    responses: list[Response]
    texts: list[str]  # what the responses say
    grades: list[Grade]

    @property
    def mixed(self) -> bool:
        """Their rewards differ, so that the group says which responses are better."""
        return varies(self.grades)

    @property
    def failed_grades(self) -> int:
        return sum(grade.failed for grade in self.grades)


@dataclass(frozen=True, kw_only=True)
class GroupBatch:
    kept: list[Group]  # the mixed groups of one training step, which it learns from
    generated: list[Group]  # every group that was sampled to find them
    generation_batches: int


class Roller(Protocol):
    """What makes graded responses of problems. Training and evaluation know it by this alone."""

    def groups(
        self, problems: Sequence[Problem], group_size: int, params: SamplingParams, seed: int, clock: Clock
    ) -> list[Group]:
        """`group_size` graded responses for each problem, in the order of the problems."""
        ...


@dataclass(frozen=True, kw_only=True)
class PolicyRoller:
    """A Roller: the policy's own sampler, and the grader of the recipe."""

    sampler: Sampler
    tokenizer: PreTrainedTokenizerBase
    prompting: Prompting
    grade: Callable[[Sequence[tuple[str, Problem]]], list[Grade]]
    stop_tokens: Sequence[int] = ()

    def groups(
        self, problems: Sequence[Problem], group_size: int, params: SamplingParams, seed: int, clock: Clock
    ) -> list[Group]:
        prompts = [encode(problem, self.tokenizer, self.prompting) for problem in problems]
        with clock.phase("generate"):
            repeated = [prompt for prompt in prompts for _ in range(group_size)]
            responses = self.sampler.sample(repeated, params, seed)
        with clock.phase("grade"):
            texts = texts_of(responses, self.tokenizer, self.stop_tokens)
            seen = [as_asked(problem, self.prompting) for problem in problems]
            asked = [problem for problem in seen for _ in range(group_size)]
            grades = self.grade(list(zip(texts, asked, strict=True)))
            groups = []
            for i, (problem, prompt) in enumerate(zip(problems, prompts, strict=True)):
                members = slice(i * group_size, (i + 1) * group_size)
                groups.append(
                    Group(
                        problem=problem,
                        prompt_tokens=prompt,
                        responses=responses[members],
                        texts=texts[members],
                        grades=grades[members],
                    )
                )
        return groups


def failures_of(groups: Sequence[Group]) -> str | None:
    """`2 grades failed, the first on problem 17: crash (ValueError: no)`, or None."""
    return failure_line((group.problem.id, grade) for group in groups for grade in group.grades)


class ProblemStream:
    """The training problems in an endless order that is a function of the seed: shuffled anew each epoch.

    `parts`: of several sources, which stand in `problems` one after the other, (number of problems, weight). After any
    number of draws each has had its share by weight, to within one problem, and has epochs of its own.
    """

    def __init__(
        self,
        problems: Sequence[Problem],
        seed: int,
        taken: int = 0,
        *,
        parts: Sequence[tuple[int, float]] = (),
        shuffle: bool = True,
    ) -> None:
        self.problems = problems
        self.seed = seed
        self.taken = taken  # problems drawn so far: all the state there is
        self.shuffle = shuffle
        self._parts = parts or [(len(problems), 1.0)]
        self._begins = list(accumulate((count for count, _ in self._parts), initial=0))
        self._draws: list[tuple[int, int]] = []  # of each problem drawn: its part, and how many of it came before
        self._drawn = [0] * len(self._parts)

    def take(self, count: int) -> list[Problem]:
        drawn = [self._at(self.taken + i) for i in range(count)]
        self.taken += count
        return drawn

    def _at(self, position: int) -> Problem:
        part, before = self._draw(position)
        count = self._parts[part][0]
        epoch, index = divmod(before, count)
        if self.shuffle:
            names = (part, epoch) if len(self._parts) > 1 else (epoch,)
            index = _epoch_order(count, derive_seed(self.seed, "order", *names))[index]
        return self.problems[self._begins[part] + index]

    def _draw(self, position: int) -> tuple[int, int]:
        """Always from the part that is furthest behind its share."""
        if len(self._parts) == 1:
            return 0, position
        whole = sum(weight for _, weight in self._parts)
        while len(self._draws) <= position:
            due = (len(self._draws) + 1) / whole
            behind = [weight * due - drawn for (_, weight), drawn in zip(self._parts, self._drawn, strict=True)]
            part = behind.index(max(behind))
            self._draws.append((part, self._drawn[part]))
            self._drawn[part] += 1
        return self._draws[position]


@lru_cache(maxsize=8)
def _epoch_order(count: int, seed: int) -> list[int]:
    order = list(range(count))
    random.Random(seed).shuffle(order)
    return order


def collect_groups(
    stream: ProblemStream, roller: Roller, table: RolloutTable, *, drop_failed: bool, seed: int, clock: Clock
) -> GroupBatch:
    """Sample generation batches until `table.groups` groups are mixed, or as many batches as may be; the surplus goes.

    With `drop_failed` a group in which a grader failed is not kept either.
    """
    params = table.params(table.max_response_tokens)
    kept: list[Group] = []
    generated: list[Group] = []
    batches = 0
    while len(kept) < table.groups and batches < table.max_generation_batches:
        problems = stream.take(table.generation_batch)
        groups = roller.groups(problems, table.group_size, params, derive_seed(seed, batches), clock)
        generated += groups
        kept += [group for group in groups if group.mixed and not (drop_failed and group.failed_grades)]
        batches += 1
    return GroupBatch(kept=kept[: table.groups], generated=generated, generation_batches=batches)
