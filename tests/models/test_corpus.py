import random
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import pytest

from fipo.models.corpus import ALPHABET, HABITS, LARGEST_MISTAKE, LESSONS, LONG_HABITS, way_of

COUNT = 10_000
CORPORA = {"lessons": LESSONS, "habits": HABITS}
STEP = re.compile(r"(-?\d+)((?:[+-]\d+)+)=(-?\d+)")


@dataclass(frozen=True)
class Step:
    before: int  # the running total
    added: tuple[int, ...]
    after: int

    @property
    def mistake(self):
        return self.after - self.before - sum(self.added)


def numbers(text):
    return tuple(map(int, re.findall(r"[+-]?\d+", text)))


def read_steps(text):
    """`7-3=4;4+9=13` as two steps; any other form is an error."""
    found = [STEP.fullmatch(step) for step in text.split(";")]
    assert all(found), text
    return [Step(int(match[1]), numbers(match[2]), int(match[3])) for match in found]


@dataclass(frozen=True)
class Solution:
    """What an example says, read without the code that wrote it."""

    chains: list[tuple[list[Step], tuple[int, ...]]]  # the steps, and the terms that they are to add
    answer: int
    right_answer: int

    @property
    def steps(self):
        return [step for steps, _ in self.chains for step in steps]


@cache
def read(example):
    terms = numbers(example.prompt[:-1])
    work, _, answer = example.response.partition("#")
    forward, _, check = work.partition("?")
    check, _, again = check.partition("x")
    written = ((forward, terms), (check, terms[::-1]), (again, terms))
    return Solution(
        chains=[(read_steps(text), order) for text, order in written if text],
        answer=int(answer),
        right_answer=eval(example.prompt[:-1]),
    )


def draw(corpus, seed=0, count=COUNT):
    rng = random.Random(seed)
    return [corpus.draw(rng) for _ in range(count)]


@pytest.fixture(scope="module")
def habits():
    return draw(HABITS)


@pytest.fixture(scope="module")
def lessons():
    return draw(LESSONS)


@pytest.fixture(scope="module")
def examples(lessons, habits):
    return lessons + habits


@pytest.fixture(scope="module")
def by_way(examples):
    ways = {example.way for example in examples}
    return {way: [example for example in examples if example.way == way] for way in ways}


def test_every_chain_of_steps_adds_the_terms_of_the_question_in_order(examples):
    """Each step goes on from what the one before wrote, be that right or wrong."""
    for example in examples:
        for steps, terms in read(example).chains:
            assert steps[0].before == terms[0]
            assert sum((step.added for step in steps), ()) == terms[1:]
            assert all(one.after == following.before for one, following in pairwise(steps))


def test_a_direct_answer_is_the_right_one_and_nothing_else(by_way):
    for example in by_way["direct"]:
        assert example.response == f"#{eval(example.prompt[:-1])}"


def test_the_answer_is_where_the_last_forward_chain_ends(by_way):
    for way in ("coarse", "fine", "checked"):
        for example in by_way[way]:
            solution = read(example)
            steps, _ = solution.chains[2 if len(solution.chains) == 3 else 0]
            assert solution.answer == steps[-1].after


def test_fine_steps_add_one_term_and_coarse_steps_two_or_three_until_the_last(by_way):
    for example in by_way["fine"]:
        ((steps, _),) = read(example).chains
        assert all(len(step.added) == 1 for step in steps)
    for example in by_way["coarse"]:
        ((steps, _),) = read(example).chains
        assert all(len(step.added) in (2, 3) for step in steps[:-1])
        assert len(steps[-1].added) in (1, 2, 3)


def test_a_checked_solution_starts_again_exactly_when_its_two_sums_disagree(by_way):
    lengths = Counter()
    for example in by_way["checked"]:
        solution = read(example)
        assert all(len(step.added) == 1 for step in solution.steps)
        (forward, _), (check, _) = solution.chains[:2]
        agree = forward[-1].after == check[-1].after
        assert len(solution.chains) == (2 if agree else 3)
        assert ("x" in example.response) == (not agree)
        lengths[len(solution.chains)] += 1
    assert min(lengths[2], lengths[3]) > 100


def test_without_a_mistake_every_way_gives_the_right_answer(examples):
    for example in examples:
        solution = read(example)
        if not any(step.mistake for step in solution.steps):
            assert solution.answer == solution.right_answer


def test_lessons_hold_no_mistake(lessons):
    assert all(read(example).answer == read(example).right_answer for example in lessons)
    assert not any(step.mistake for example in lessons for step in read(example).steps)


def test_mistakes_are_as_frequent_as_stated_for_each_number_of_terms(habits):
    steps = [step for example in habits for step in read(example).steps]
    for size, rate in HABITS.mistake_rates.items():
        mistaken = [step.mistake != 0 for step in steps if len(step.added) == size]
        error = (rate * (1 - rate) / len(mistaken)) ** 0.5
        assert abs(sum(mistaken) / len(mistaken) - rate) < 4 * error < 0.05


def test_mistakes_go_up_and_down_by_every_amount_up_to_the_largest(habits):
    found = {step.mistake for example in habits for step in read(example).steps}
    assert found == set(range(-LARGEST_MISTAKE, LARGEST_MISTAKE + 1))


@pytest.mark.parametrize("name", CORPORA)
def test_ways_are_as_frequent_as_stated(name, request):
    drawn = Counter(example.way for example in request.getfixturevalue(name))
    shares = CORPORA[name].ways
    assert sum(shares.values()) == pytest.approx(1)
    assert set(drawn) == set(shares)
    for way, share in shares.items():
        error = (share * (1 - share) / COUNT) ** 0.5
        assert abs(drawn[way] / COUNT - share) < 4 * error


def test_longer_ways_are_more_often_right(habits):
    """What reinforcement learning has to choose between."""
    accuracy = {}
    for way in ("coarse", "fine", "checked"):
        solutions = [read(example) for example in habits if example.way == way]
        accuracy[way] = sum(solution.answer == solution.right_answer for solution in solutions) / len(solutions)
    assert accuracy["coarse"] < accuracy["fine"] < accuracy["checked"] < 1


def test_the_way_can_be_read_from_the_form_of_a_response(examples):
    for example in examples:
        assert way_of(example.response) == example.way


@pytest.mark.parametrize(
    ("response", "way"),
    [
        ("", "direct"),
        ("12", "direct"),
        ("7-3=4;4+9=13", "fine"),
        ("-7-3=-10#-10", "fine"),
        ("-7-3+9=-1#-1", "coarse"),
        ("7-3=4;4+9-2=11#11", "coarse"),
        ("7-3=4?", "checked"),
        ("=#;", "fine"),
    ],
)
def test_the_way_of_an_unfinished_or_broken_response_is_read_too(response, way):
    assert way_of(response) == way


def test_the_corpus_uses_the_whole_alphabet_and_nothing_else(habits):
    assert set().union(*(example.prompt + example.response for example in habits)) == set(ALPHABET)
    assert len(set(ALPHABET)) == len(ALPHABET)


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_is_a_function_of_its_random_stream(name, request):
    assert draw(CORPORA[name], seed=0, count=50) == request.getfixturevalue(name)[:50]
    assert draw(CORPORA[name], seed=1, count=50) != request.getfixturevalue(name)[:50]


@pytest.fixture(scope="module")
def long_habits():
    return draw(LONG_HABITS, count=4000)


def test_long_sums_have_nine_to_twelve_terms(long_habits):
    assert {len(numbers(example.prompt[:-1])) for example in long_habits} == {9, 10, 11, 12}


def test_the_check_of_a_long_sum_goes_back_to_0_and_the_sum_is_done_again_when_it_does_not_get_there(long_habits):
    redone = Counter()
    for example in long_habits:
        if example.way != "checked":
            continue
        terms = numbers(example.prompt[:-1])
        work, _, answer = example.response.partition("#")
        forward, _, rest = work.partition("?")
        check, mark, again = rest.partition("x")
        undone = read_steps(check)
        assert undone[0].before == read_steps(forward)[-1].after
        assert [step.added[0] for step in undone] == [-term for term in terms]
        assert bool(mark) == (undone[-1].after != 0)
        for sum_of_terms in (forward, again) if mark else (forward,):
            steps = read_steps(sum_of_terms)
            assert (steps[0].before, *(step.added[0] for step in steps)) == terms
        assert int(answer) == steps[-1].after
        redone[bool(mark)] += 1
    assert min(redone[True], redone[False]) > 200


def test_a_checked_long_sum_is_right_more_often_than_one_that_is_not(long_habits):
    right = {way: [] for way in ("fine", "checked")}
    for example in long_habits:
        if example.way in right:
            right[example.way].append(int(example.response.split("#")[1]) == eval(example.prompt[:-1]))
    share = {way: sum(values) / len(values) for way, values in right.items()}
    assert share["fine"] < 0.75 and share["checked"] > 0.8
