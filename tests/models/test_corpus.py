import random
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import pytest

from fipo.models.corpus import ALPHABET, LARGEST_MISTAKE, MISTAKE_RATE, WAYS, Example, draw_example, way_of

COUNT = 12_000
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
    """`12-7=5;5+30=35` as two steps; any other form is an error."""
    found = [STEP.fullmatch(step) for step in text.split(";")]
    assert all(found), text
    return [Step(int(match[1]), numbers(match[2]), int(match[3])) for match in found]


def check_chain(steps, terms):
    """The steps add all the terms in order, each going on from what the one before wrote."""
    assert steps[0].before == terms[0]
    assert sum((step.added for step in steps), ()) == terms[1:]
    assert all(one.after == next_.before for one, next_ in pairwise(steps))


@cache
def chains_of(example):
    """Every chain of steps in an example with the terms that it adds, and the answer."""
    terms = numbers(example.prompt[:-1])
    work, _, answer = example.response.partition("#")
    if not work:
        return [], int(answer)
    forward, _, check = work.partition("?")
    check, _, again = check.partition("x")
    return [
        (read_steps(text), order) for text, order in ((forward, terms), (check, terms[::-1]), (again, terms)) if text
    ], int(answer)


@pytest.fixture(scope="module")
def examples():
    rng = random.Random(0)
    return [draw_example(rng) for _ in range(COUNT)]


@pytest.fixture(scope="module")
def by_way(examples):
    return {way: [example for example in examples if example.way == way] for way in WAYS}


def test_every_chain_of_steps_adds_the_terms_of_the_question_in_order(examples):
    for example in examples:
        for steps, terms in chains_of(example)[0]:
            check_chain(steps, terms)


def test_a_direct_answer_is_the_right_one(by_way):
    for example in by_way["direct"]:
        assert example.response == f"#{eval(example.prompt[:-1])}"


def test_the_answer_is_where_the_last_forward_chain_ends(by_way):
    for way in ("coarse", "fine", "checked"):
        for example in by_way[way]:
            chains, answer = chains_of(example)
            steps, _ = chains[-1] if len(chains) == 3 else chains[0]
            assert answer == steps[-1].after


def test_fine_steps_add_one_term_and_coarse_steps_two_or_three_until_the_last(by_way):
    for example in by_way["fine"]:
        ((steps, _),), _ = chains_of(example)
        assert all(len(step.added) == 1 for step in steps)
    for example in by_way["coarse"]:
        ((steps, _),), _ = chains_of(example)
        assert all(len(step.added) in (2, 3) for step in steps[:-1])
        assert len(steps[-1].added) in (1, 2, 3)


def test_a_checked_solution_starts_again_exactly_when_its_two_sums_disagree(by_way):
    lengths = Counter()
    for example in by_way["checked"]:
        chains, _ = chains_of(example)
        assert all(len(step.added) == 1 for steps, _ in chains for step in steps)
        (forward, _), (check, _) = chains[:2]
        agree = forward[-1].after == check[-1].after
        assert len(chains) == (2 if agree else 3)
        assert ("x" in example.response) == (not agree)
        lengths[len(chains)] += 1
    assert min(lengths[2], lengths[3]) > 100


def test_without_a_mistake_every_way_gives_the_right_answer(examples):
    for example in examples:
        chains, answer = chains_of(example)
        if not any(step.mistake for steps, _ in chains for step in steps):
            assert answer == eval(example.prompt[:-1])


def test_mistakes_are_as_frequent_as_stated_for_each_number_of_terms(examples):
    steps = [step for example in examples for chain, _ in chains_of(example)[0] for step in chain]
    for size, rate in MISTAKE_RATE.items():
        mistaken = [step.mistake != 0 for step in steps if len(step.added) == size]
        error = (rate * (1 - rate) / len(mistaken)) ** 0.5
        assert abs(sum(mistaken) / len(mistaken) - rate) < 4 * error < 0.05


def test_mistakes_go_up_and_down_by_every_amount_up_to_the_largest(examples):
    found = {step.mistake for example in examples for chain, _ in chains_of(example)[0] for step in chain}
    assert found == set(range(-LARGEST_MISTAKE, LARGEST_MISTAKE + 1))


def test_ways_are_as_frequent_as_stated(by_way):
    assert sum(WAYS.values()) == 1
    for way, share in WAYS.items():
        error = (share * (1 - share) / COUNT) ** 0.5
        assert abs(len(by_way[way]) / COUNT - share) < 4 * error


def test_checking_pays_and_coarse_steps_cost_accuracy(by_way):
    """What reinforcement learning has to choose between."""
    accuracy = {
        way: sum(chains_of(example)[1] == eval(example.prompt[:-1]) for example in by_way[way]) / len(by_way[way])
        for way in ("coarse", "fine", "checked")
    }
    assert accuracy["coarse"] < accuracy["fine"] < accuracy["checked"]


def test_the_way_can_be_read_from_the_form_of_a_response(examples):
    for example in examples:
        assert way_of(example.response) == example.way


@pytest.mark.parametrize(
    ("response", "way"),
    [
        ("", "direct"),
        ("12", "direct"),
        ("12-7=5;5+30=35", "fine"),
        ("-12-7=-19#-19", "fine"),
        ("-12-7+3=-16#-16", "coarse"),
        ("12-7=5;5+30-2=33#33", "coarse"),
        ("12-7=5?", "checked"),
        ("=#;", "fine"),
    ],
)
def test_the_way_of_an_unfinished_or_broken_response_is_read_too(response, way):
    assert way_of(response) == way


def test_everything_is_written_in_the_alphabet(examples):
    assert set().union(*(example.prompt + example.response for example in examples)) == set(ALPHABET)
    assert len(set(ALPHABET)) == len(ALPHABET)


def test_the_corpus_is_a_function_of_its_random_stream(examples):
    rng = random.Random(0)
    assert [draw_example(rng) for _ in range(50)] == examples[:50]
    assert all(isinstance(example, Example) for example in examples[:50])
