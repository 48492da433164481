from statistics import fmean

import pytest
import torch

from fipo.data.made.signed_sums import signed_sums
from fipo.data.problem import Problem
from fipo.evaluation import interval
from fipo.evaluation.runner import Evaluation, evaluate
from fipo.evaluation.summary import estimates_of
from fipo.evaluation.votes import votes_of
from fipo.grading.answers.math import grade_math
from fipo.grading.answers.number import grade_number
from fipo.models.loading import stop_tokens
from fipo.models.make_tiny import make_model
from fipo.models.tokenizer import make_tokenizer
from fipo.rollout.engine.slot_engine import SlotEngine
from fipo.rollout.groups import Group, PolicyRoller
from fipo.rollout.prompts import Prompting
from fipo.rollout.sampler import Response, SamplingParams
from fipo.telemetry.clock import Clock


def group(answer, responses):
    """A problem with the given answer, and responses as (text, tokens, truncated)."""
    problem = Problem(id=f"test/{answer}", prompt="?", answer=answer, source="test")
    return Group(
        problem=problem,
        prompt_tokens=[3],
        responses=[
            Response(tokens=[5] * length, logprobs=[-1.0] * length, truncated=cut) for _, length, cut in responses
        ],
        texts=[text for text, _, _ in responses],
        grades=[grade_number(text, problem) for text, _, _ in responses],
    )


EVALUATION = Evaluation(
    sampled=[
        group("4", [("#4", 3, False), ("#4", 5, False), ("#5", 4, False), ("", 8, True)]),
        group("7", [("#1", 3, False), ("#1", 3, False), ("#7", 3, False), ("#2", 3, False)]),
        group("9", [("", 8, True), ("", 8, True), ("", 8, True), ("", 8, True)]),
        group("2", [("#2", 3, False)] * 4),
    ],
    greedy=[group("4", [("#4", 3, False)]), group("7", [("#1", 3, False)]), group("9", [("", 8, True)])],
    votes=[[0, 0, 1, None], [1, 1, 0, 2], [None] * 4, [0] * 4],
)


def test_the_figures_of_an_evaluation_are_those_of_a_hand_count():
    metrics = EVALUATION.metrics()
    expected = {
        "eval/greedy": 1 / 3,
        "eval/avg_at_k": (2 / 4 + 1 / 4 + 0 + 1) / 4,
        "eval/pass_at_k": 3 / 4,
        "eval/cons_at_k": (1 + 0 + 0 + 1) / 4,
        "eval/response_length/mean": (20 + 12 + 32 + 12) / 16,
        "eval/truncated": 5 / 16,
        "eval/no_answer": 5 / 16,
        "eval/failed": 0,
    }
    assert {key: metrics[key] for key in expected} == pytest.approx(expected)
    assert set(metrics) == set(expected) | {
        f"eval/ci/{name}/{end}" for name in ("greedy", "avg_at_k", "pass_at_k") for end in ("low", "high")
    }


def test_the_intervals_of_an_evaluation_count_problems():
    metrics = EVALUATION.metrics()
    for name, by_problem in (
        ("greedy", [1.0, 0.0, 0.0]),
        ("avg_at_k", [0.5, 0.25, 0.0, 1.0]),
        ("pass_at_k", [1.0, 1.0, 0.0, 1.0]),
    ):
        assert (metrics[f"eval/ci/{name}/low"], metrics[f"eval/ci/{name}/high"]) == interval(by_problem)


@pytest.fixture(scope="module")
def roller():
    """A real sampler over an untrained model."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    model = make_model(tokenizer).eval()
    return PolicyRoller(
        sampler=SlotEngine(model, stop_tokens=stop_tokens(model, tokenizer), slots=8),
        tokenizer=tokenizer,
        prompting=Prompting(),
        grade=lambda answers: [grade_number(text, problem) for text, problem in answers],
    )


def by_text(pairs):
    return [a == b for a, b in pairs]


def run(roller, seed=0):
    params = SamplingParams(temperature=1.0, max_tokens=6)
    return evaluate(roller, signed_sums("eval", 5), samples=3, params=params, seed=seed, clock=Clock(), same=by_text)


def test_every_problem_gets_its_samples_and_one_greedy_response(roller):
    evaluation = run(roller)
    problems = signed_sums("eval", 5)
    assert [group.problem for group in evaluation.sampled] == problems
    assert [group.problem for group in evaluation.greedy] == problems
    assert {len(group.responses) for group in evaluation.sampled} == {3}
    assert {len(group.responses) for group in evaluation.greedy} == {1}
    lengths = [len(response.tokens) for group in evaluation.sampled for response in group.responses]
    assert max(lengths) <= 6
    assert evaluation.metrics()["eval/response_length/mean"] == pytest.approx(fmean(lengths))


class Scripted:
    """Gives these responses to the problem that it is asked, graded by the math grader."""

    def groups(self, problems, group_size, params, seed, clock):
        said = ["\\boxed{1/2}", "\\boxed{0.5}", "\\boxed{\\frac{2}{4}}", "\\boxed{7}", "\\boxed{8}"][:group_size]
        return [
            Group(
                problem=problem,
                prompt_tokens=[3],
                responses=[Response(tokens=[5], logprobs=[-1.0], truncated=False)] * len(said),
                texts=said,
                grades=[grade_math(text, problem) for text in said],
            )
            for problem in problems
        ]


@pytest.mark.parametrize(("answer", "cons"), [("0.5", 1.0), ("7", 0.0), ("1", 0.0)])
def test_three_equal_answers_spelled_differently_are_one_vote_in_training_as_in_fipo_eval(answer, cons):
    scripted = Scripted()
    problem = Problem(id="half", prompt="?", answer=answer, source="test")
    params = SamplingParams(temperature=1.0, max_tokens=6)

    def same(pairs):
        return [grade_math.same(*pair) for pair in pairs]

    evaluation = evaluate(scripted, [problem], samples=5, params=params, seed=0, clock=Clock(), same=same)
    assert evaluation.metrics()["eval/cons_at_k"] == cons
    grades = evaluation.sampled[0].grades
    (votes,) = votes_of([grades], same)
    results = [{"samples": [{"correct": g.correct, "vote": vote} for g, vote in zip(grades, votes, strict=True)]}]
    assert estimates_of(results)["cons@5"] == [cons]


def texts(groups):
    return [group.texts for group in groups]


def test_two_evaluations_with_one_seed_share_their_random_numbers(roller):
    assert run(roller, seed=1) == run(roller, seed=1)


def test_another_seed_changes_the_samples_and_not_the_greedy_responses(roller):
    one, other = run(roller, seed=1), run(roller, seed=2)
    assert texts(one.sampled) != texts(other.sampled)
    assert texts(one.greedy) == texts(other.greedy)
