"""What a few sampled responses say about a run that has not begun."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import prod
from statistics import fmean, stdev

from fipo.doctor.findings import Finding
from fipo.grading.grade import Grade
from fipo.grading.outcomes import broken, gives_numbers, reward_of
from fipo.rollout.groups import Group, failures_of
from fipo.training.recipe import Recipe

LARGE_GAP = 0.02  # nats a token; rounding makes some 1e-6 in float32, some 1e-2 in bfloat16
LOW = 0.5  # of a rate; a reasonable prompt is far above it


@dataclass(frozen=True, kw_only=True)
class SampleFigures:
    responses: int
    stopped: float  # share that a stop token ended
    answered: float  # share in which the grader found an answer, right or wrong
    correct: float  # share
    mean_length: float  # tokens
    length_error: float  # standard error of that mean
    longest: int
    mean_prompt: float
    mixed: float  # expected share of groups of the recipe's size in which the reward varies
    reward: float | None = None  # mean, where graders give numbers


def figures_of(groups: Sequence[Group], group_size: int) -> SampleFigures:
    """The figures of groups of any size; `group_size` is that of the recipe."""
    responses = [response for group in groups for response in group.responses]
    grades = [grade for group in groups for grade in group.grades]
    lengths = [len(response.tokens) for response in responses]
    rate = (sum(grade.correct for grade in grades) + 0.5) / (len(grades) + 1)
    return SampleFigures(
        responses=len(responses),
        stopped=fmean(not response.truncated for response in responses),
        answered=fmean(grade.outcome in ("correct", "wrong") for grade in grades),
        correct=fmean(grade.correct for grade in grades),
        mean_length=fmean(lengths),
        length_error=stdev(lengths) / len(lengths) ** 0.5 if len(lengths) > 1 else 0.0,
        longest=max(lengths),
        mean_prompt=fmean(len(group.prompt_tokens) for group in groups),
        mixed=_mixed_by_number(groups, group_size)
        if gives_numbers(grades)
        else fmean(
            mixed_share(sum(grade.correct for grade in group.grades), len(group.grades), group_size, rate)
            for group in groups
        ),
        reward=fmean(map(reward_of, grades)) if gives_numbers(grades) else None,
    )


def _mixed_by_number(groups: Sequence[Group], group_size: int) -> float:
    """At least this share of groups of that size have different rewards.

    1 - q^(G/2), q the share of pairs within groups with one reward, one half more of one pair more: whatever the
    rewards of a problem are, sum p^G <= (sum p^2)^(G/2).
    """
    pairs = [reward_of(a) == reward_of(b) for group in groups for a, b in combinations(group.grades, 2)]
    return 1 - float((sum(pairs) + 0.5) / (len(pairs) + 1)) ** (group_size / 2)


def mixed_share(correct: int, samples: int, group_size: int, rate: float) -> float:
    """The chance that `group_size` more responses to a problem are neither all correct nor all wrong.

    1 - E[p^G] - E[(1 - p)^G], p ~ Beta(correct + rate, samples - correct + 1 - rate): problems differ as if each had
    one answer before these, right at the rate of all problems.
    """
    right, wrong = correct + rate, samples - correct + 1 - rate

    def all_alike(count: float) -> float:
        return prod((count + i) / (right + wrong + i) for i in range(group_size))

    return 1 - all_alike(right) - all_alike(wrong)


def sample_findings(recipe: Recipe, groups: Sequence[Group], figures: SampleFigures) -> list[Finding]:
    """What is wrong with the responses, gravest first."""
    failed = _failed_grades(groups)
    if failed is not None and failed.level == "problem":
        return [failed]  # of responses without a grade there is no more to say
    found = [
        failed,
        _never_stops(recipe, figures),
        _no_answers(recipe, figures),
        _no_contrast(groups, figures),
    ]
    return [finding for finding in found if finding is not None]


def gap_findings(recipe: Recipe, gap: float) -> list[Finding]:
    """Says so of a sampler whose arithmetic differs from the trainer's by more than rounding."""
    if gap <= LARGE_GAP or recipe.objective.importance_weight_cap is not None:
        return []
    return [
        Finding(
            level="warning",
            keys=("objective.importance_weight_cap",),
            text=f"log-probs of sampler and trainer differ by {gap:.2g} nats a token on average",
            advice='objective.importance_weight_cap = 2.0, or model.dtype = "float32"',
        )
    ]


def _failed_grades(groups: Sequence[Group]) -> Finding | None:
    if line := broken(_grades(groups)):
        return Finding(
            level="problem",
            keys=("data.grader", "reward.graders"),
            text=f"{line}: the run would stop at its first batch",
            advice="mend the grader: docs/graders.md has what it is called with and may return",
        )
    failures = failures_of(groups)
    if failures is None:
        return None
    return Finding(
        level="warning",
        keys=("data.grader", "grading"),
        text=f"{failures}; such an answer teaches nothing",
        advice="grading.deadline_seconds, grading.memory_mib, or the grader itself",
    )


def _never_stops(recipe: Recipe, figures: SampleFigures) -> Finding | None:
    if figures.stopped >= LOW:
        return None
    longest = recipe.rollout.max_response_tokens
    return Finding(
        level="warning",
        keys=("rollout.max_response_tokens",),
        text=f"{figures.stopped:.0%} of {figures.responses} responses ended by themselves, the others were cut off "
        f"after {longest} tokens: such a run learns to be short before it learns anything else",
        advice=f"{_remedies(recipe)}, or a larger rollout.max_response_tokens if the texts above are unfinished",
    )


def _no_answers(recipe: Recipe, figures: SampleFigures) -> Finding | None:
    if figures.answered >= LOW:
        return None
    return Finding(
        level="warning",
        keys=("data.grader",),
        text=f'in {figures.answered:.0%} of {figures.responses} responses the grader "{recipe.data.grader}" found an '
        "answer: most of what is rewarded at first is the format",
        advice=f"a template that asks for the grader's format (docs/data.md), {_remedies(recipe)}, another data.grader",
    )


def _no_contrast(groups: Sequence[Group], figures: SampleFigures) -> Finding | None:
    rewards = {reward_of(grade) for grade in _grades(groups)}
    if 0 < figures.correct < 1 or (figures.reward is not None and len(rewards) > 1):
        return None
    if figures.reward is not None:
        return Finding(
            level="warning",
            keys=("data.grader",),
            text=f"all of {figures.responses} responses have the reward {figures.reward:g}; a group in which it does "
            "not vary has no advantages and is dropped, so there may be nothing to learn from",
            advice="a grader that tells better responses from worse ones (docs/graders.md), or other problems",
        )
    kind, other = ("right", "harder") if figures.correct else ("wrong", "easier")
    return Finding(
        level="warning",
        keys=("data.train",),
        text=f"all of {figures.responses} responses are {kind}; a group in which success does not vary has no "
        "advantages and is dropped, so there may be nothing to learn from",
        advice=f"{other} problems, or a look at more of them with `fipo eval`",
    )


def _grades(groups: Sequence[Group]) -> list[Grade]:
    return [grade for group in groups for grade in group.grades]


def _remedies(recipe: Recipe) -> str:
    """What makes a model answer in a format and stop, of what the recipe does not do yet."""
    few_shot = ["few-shot examples (data.examples)"] if not recipe.data.examples else []
    stop = ['a stop string (rollout.stop = ["\\n"])'] if not recipe.rollout.stop else []
    other = "raw" if recipe.data.prompt_format == "chat" else "chat"
    return ", ".join([*few_shot, *stop, f'data.prompt_format = "{other}"'])
