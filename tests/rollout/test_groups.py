from collections.abc import Callable, Sequence

import pytest

from fipo.data.problem import Problem
from fipo.grading.answers.number import grade_number
from fipo.grading.grade import Grade
from fipo.models.tokenizer import make_tokenizer
from fipo.rollout.groups import PolicyRoller, ProblemStream, collect_groups
from fipo.rollout.prompts import Prompting
from fipo.rollout.sampler import Response, SamplingParams
from fipo.rollout.table import RolloutTable
from fipo.telemetry.clock import Clock

TOKENIZER = make_tokenizer()


class Scripted:
    """A sampler whose answers are known: `9` for problems that are always solved, `0` for those that never are.

    The prompt's first digit says how many of the four responses are right.
    """

    def sample(self, prompts: Sequence[list[int]], params: SamplingParams, seed: int) -> list[Response]:
        texts = []
        for i, prompt in enumerate(prompts):
            right = int(TOKENIZER.decode(prompt)[0])
            texts.append("9" if i % 4 < right else "0")
        return [
            Response(
                tokens=[*TOKENIZER.encode(text), TOKENIZER.eos_token_id],
                logprobs=[0.0, 0.0],
                truncated=False,
            )
            for text in texts
        ]


def problem(right: int, number: int) -> Problem:
    return Problem(id=f"{right}/{number}", prompt=f"{right}+{number}=", answer="9", source="test")


def grade_numbers(answers: Sequence[tuple[str, Problem]]) -> list[Grade]:
    return [grade_number(text, problem) for text, problem in answers]


def grade_crashing_at_zero_of_four(answers: Sequence[tuple[str, Problem]]) -> list[Grade]:
    """As grade_numbers, but the grader crashes on the first response to problems in which three are right."""
    crash = Grade(outcome="crash", answer=None)
    return [
        crash if problem.id[0] == "3" and i % 4 == 0 else grade
        for i, ((_, problem), grade) in enumerate(zip(answers, grade_numbers(answers), strict=True))
    ]


def collect(
    problems: list[Problem],
    *,
    wanted: int,
    per_batch: int,
    max_batches: int = 10,
    grade: Callable[[Sequence[tuple[str, Problem]]], list[Grade]] = grade_numbers,
    drop_failed: bool = False,
):
    roller = PolicyRoller(sampler=Scripted(), tokenizer=TOKENIZER, prompting=Prompting(), grade=grade)
    stream = ProblemStream(problems, seed=0)
    table = RolloutTable(
        groups=wanted,
        group_size=4,
        generation_batch=per_batch,
        max_generation_batches=max_batches,
        max_prompt_tokens=8,
        max_response_tokens=4,
    )
    batch = collect_groups(stream, roller, table, drop_failed=drop_failed, seed=0, clock=Clock())
    return batch, stream


def test_groups_in_which_success_does_not_vary_are_dropped() -> None:
    batch, _ = collect([problem(right, i) for i, right in enumerate([0, 1, 2, 3, 4])], wanted=3, per_batch=5)
    assert sorted(group.problem.id[0] for group in batch.kept) == ["1", "2", "3"]
    assert len(batch.generated) == 5


def test_generation_goes_on_until_the_batch_is_full_and_the_surplus_is_discarded() -> None:
    problems = [problem(right, i) for i, right in enumerate([0, 2] * 8)]
    batch, stream = collect(problems, wanted=3, per_batch=4)
    assert len(batch.kept) == 3
    assert batch.generation_batches >= 2
    assert stream.taken == 4 * batch.generation_batches == len(batch.generated)


def test_generation_stops_at_its_cap_and_returns_a_short_batch() -> None:
    batch, stream = collect([problem(0, i) for i in range(8)], wanted=2, per_batch=4, max_batches=3)
    assert batch.kept == []
    assert batch.generation_batches == 3
    assert stream.taken == 12


def test_each_response_is_graded_against_its_own_problem() -> None:
    batch, _ = collect([problem(1, 0)], wanted=1, per_batch=1)
    group = batch.kept[0]
    assert [grade.outcome for grade in group.grades] == ["correct", "wrong", "wrong", "wrong"]
    assert group.texts == ["9", "0", "0", "0"]


@pytest.mark.parametrize(("drop_failed", "kept"), [(False, ["1", "2", "3"]), (True, ["1", "2"])])
def test_a_group_in_which_the_grader_failed_is_kept_or_dropped(drop_failed: bool, kept: list[str]) -> None:
    problems = [problem(right, i) for i, right in enumerate([0, 1, 2, 3, 4])]
    batch, _ = collect(
        problems, wanted=3, per_batch=5, max_batches=1, grade=grade_crashing_at_zero_of_four, drop_failed=drop_failed
    )
    assert sorted(group.problem.id[0] for group in batch.kept) == kept
    assert sum(group.failed_grades for group in batch.generated) == 1


@pytest.mark.parametrize("cut", [1, 5, 7, 13])
def test_the_order_of_problems_is_a_function_of_seed_and_position(cut: int) -> None:
    problems = [problem(1, i) for i in range(6)]
    whole = ProblemStream(problems, seed=3).take(20)
    first = ProblemStream(problems, seed=3)
    first.take(cut)
    assert ProblemStream(problems, seed=3, taken=cut).take(20 - cut) == whole[cut:]
    assert first.take(20 - cut) == whole[cut:]


def test_every_epoch_holds_every_problem_once_in_another_order() -> None:
    problems = [problem(1, i) for i in range(30)]
    stream = ProblemStream(problems, seed=0)
    first, second = stream.take(30), stream.take(30)
    assert sorted(p.id for p in first) == sorted(p.id for p in second) == sorted(p.id for p in problems)
    assert first != second


def test_each_of_several_sources_has_its_share_by_weight_and_epochs_of_its_own() -> None:
    problems = [problem(1, i) for i in range(8)]
    stream = ProblemStream(problems, seed=0, parts=[(2, 1.0), (6, 3.0)])
    for drawn in (stream.take(8), stream.take(8)):
        ids = [p.id for p in drawn]
        assert sorted(ids) == sorted(p.id for p in problems)  # an epoch of each: 2 of the one, 6 of the other
    assert all(sum(p in problems[:2] for p in stream.take(4)) == 1 for _ in range(50))


@pytest.mark.parametrize("cut", [0, 1, 7, 20, 30])
def test_a_stream_of_several_sources_goes_on_from_the_number_drawn(cut: int) -> None:
    problems = [problem(1, i) for i in range(7)]
    parts = [(3, 0.3), (4, 1.0)]
    whole = ProblemStream(problems, seed=3, parts=parts).take(30)
    assert ProblemStream(problems, seed=3, taken=cut, parts=parts).take(30 - cut) == whole[cut:]


def test_without_shuffling_the_order_is_that_of_the_source() -> None:
    problems = [problem(1, i) for i in range(5)]
    assert ProblemStream(problems, seed=0, shuffle=False).take(7) == [*problems, *problems[:2]]
