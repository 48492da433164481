"""Evaluation of the current weights on held-out problems."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import fmean

from fipo.data.problem import Problem
from fipo.evaluation.estimators import avg_at_k, cons_at_k, interval, pass_at_k_by_problem
from fipo.evaluation.votes import Same, votes_of
from fipo.grading.outcomes import gives_numbers, part_metrics, reward_of
from fipo.rollout.groups import Group, Roller
from fipo.rollout.sampler import SamplingParams
from fipo.seeding import derive_seed
from fipo.telemetry.clock import Clock


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    sampled: list[Group]  # k responses per problem
    greedy: list[Group]  # one response per problem
    votes: list[list[int | None]]  # of the sampled ones: equal numbers are equal answers

    def parts(self, sizes: Mapping[str, int]) -> dict[str, "Evaluation"]:
        """Those of the sources by name, whose problems stand one after the other."""
        ends = list(accumulate(sizes.values(), initial=0))
        return {
            name: Evaluation(sampled=self.sampled[a:b], greedy=self.greedy[a:b], votes=self.votes[a:b])
            for name, (a, b) in zip(sizes, pairwise(ends), strict=True)
        }

    def metrics(self, under: str = "eval") -> dict[str, float]:
        """Fractions under `eval/`, and their 95% intervals under `eval/ci/.../low` and `.../high`."""
        correct = [[grade.correct for grade in group.grades] for group in self.sampled]
        by_problem = {
            "greedy": [float(group.grades[0].correct) for group in self.greedy],
            "avg_at_k": [fmean(row) for row in correct],
            "pass_at_k": pass_at_k_by_problem(correct, len(correct[0])),
        }
        responses = [response for group in self.sampled for response in group.responses]
        grades = [grade for group in self.sampled for grade in group.grades]
        metrics = {
            "greedy": fmean(by_problem["greedy"]),
            "avg_at_k": avg_at_k(correct),
            "pass_at_k": fmean(by_problem["pass_at_k"]),
            "cons_at_k": cons_at_k(self.votes, correct),
            "response_length/mean": fmean(len(response.tokens) for response in responses),
            "truncated": fmean(response.truncated for response in responses),
            "no_answer": fmean(grade.outcome == "no_answer" for grade in grades),
            "failed": sum(grade.failed for group in [*self.sampled, *self.greedy] for grade in group.grades),
        }
        if gives_numbers(grades):
            metrics["reward"] = fmean(map(reward_of, grades))
        metrics |= part_metrics(grades)
        for name, values in by_problem.items():
            metrics[f"ci/{name}/low"], metrics[f"ci/{name}/high"] = interval(values)
        return {f"{under}/{key}": value for key, value in metrics.items()}


def evaluate(
    roller: Roller,
    problems: Sequence[Problem],
    *,
    samples: int,
    params: SamplingParams,
    seed: int,
    clock: Clock,
    same: Same,
) -> Evaluation:
    """`samples` responses by `params` and one greedy response to each problem; `same` as for `votes_of`.

    The seed is the caller's, so that two evaluations can share their random numbers and differ less by chance.
    """
    greedy = SamplingParams.greedy(params.max_tokens)
    sampled = roller.groups(problems, samples, params, derive_seed(seed, "sampled"), clock)
    return Evaluation(
        sampled=sampled,
        greedy=roller.groups(problems, 1, greedy, derive_seed(seed, "greedy"), clock),
        votes=votes_of([group.grades for group in sampled], same),
    )
