import random
import re

import pytest

from fipo.data.made.relay import (
    ALPHABET,
    LETTERS,
    answer,
    block_rates,
    decisions,
    question,
    questions_of,
    relay,
    true_advantages,
)
from fipo.errors import UserError
from fipo.models.corpus import RELAY_HABITS, RELAY_LESSONS

SPLITS = ("pretrain", "train", "eval")


@pytest.fixture(scope="module")
def habits():
    rng = random.Random(0)
    return [RELAY_HABITS.draw(rng) for _ in range(4000)]


def test_the_answer_adds_its_place_to_each_digit_and_drops_the_tens():
    assert answer("3741") == "4975"
    assert answer("9999") == "0123"


def test_every_question_belongs_to_one_split():
    found = [set(questions_of(split)) for split in SPLITS]
    assert sum(map(len, found)) == len(set.union(*found)) == 10_000
    assert [round(len(one) / 1000) for one in found] == [7, 2, 1]


@pytest.mark.parametrize("filler", [0, 8, 64])
def test_a_problem_asks_for_so_many_letters_and_knows_its_digits(filler):
    for problem in relay("train", 50, 1, filler=filler):
        digits, _ = problem.prompt.split(":")
        assert problem.prompt == question(digits, filler)
        assert problem.answer == answer(digits)
        assert set(problem.prompt) <= set(ALPHABET)


def test_problems_are_distinct_a_function_of_the_seed_and_of_their_split_alone():
    chosen = relay("train", 200, 3)
    assert chosen == relay("train", 200, 3) != relay("train", 200, 4)
    assert {problem.prompt[:4] for problem in chosen} <= set(questions_of("train"))
    assert len({problem.id for problem in chosen}) == 200


def test_more_problems_than_there_are_is_refused_with_both_numbers():
    most = len(questions_of("eval"))
    with pytest.raises(UserError, match=rf"relay has {most} eval questions, got count = {most + 1}"):
        relay("eval", most + 1)


def test_lessons_are_right_and_habits_err_in_fifteen_of_a_hundred_blocks(habits):
    rng = random.Random(1)
    for example in (RELAY_LESSONS.draw(rng) for _ in range(200)):
        assert decisions(example.response) == answer(example.prompt[:4])
    wrong = [a != b for e in habits for a, b in zip(decisions(e.response), answer(e.prompt[:4]), strict=True)]
    assert abs(sum(wrong) / len(wrong) - 0.15) < 4 * (0.15 * 0.85 / len(wrong)) ** 0.5


def test_an_example_has_the_form_that_its_question_asks_for_and_is_of_the_pretraining_split(habits):
    pretraining = set(questions_of("pretrain"))
    for example in habits:
        filler = int(example.prompt[5:-1])
        assert re.fullmatch(rf"([{LETTERS}]{{{filler}}}[0-9]){{4}}", example.response)
        assert example.prompt[:4] in pretraining
    assert {example.way for example in habits} == {"0", "8"}


def test_rates_are_of_the_responses_that_were_right_up_to_the_block():
    responses = [("4975", "4975"), ("4970", "4975"), ("ab4cd0ef7gh5", "4975"), ("1111", "4975")]
    assert block_rates(responses) == [3 / 4, 2 / 3, 1.0, 1 / 2]
    assert block_rates([("1", "4975")]) == [0.0, 0.0, 0.0, 0.0]


RATES = [0.8, 0.5, 0.9, 0.6]


def test_the_advantages_of_a_response_are_the_steps_of_the_product_from_its_prior_to_its_reward():
    """On letters nothing changes; a mistake loses all that there was, and after it nothing counts."""
    right = true_advantages("a4b9c7d5", "4975", RATES)
    assert right[::2] == [0.0] * 4
    assert right[1::2] == pytest.approx([0.2 * 0.27, 0.5 * 0.54, 0.1 * 0.6, 0.4])
    wrong = true_advantages("4075", "4975", RATES)
    assert wrong == pytest.approx([0.2 * 0.27, -0.5 * 0.54, 0.0, 0.0])
    prior = 0.8 * 0.5 * 0.9 * 0.6
    assert (sum(right), sum(wrong)) == pytest.approx((1 - prior, -prior))


def test_what_follows_the_fourth_digit_has_none():
    assert true_advantages("49755", "4975", RATES)[4] == 0.0


def test_over_responses_of_the_policy_the_advantage_of_every_place_is_0():
    rng = random.Random(0)
    total = [0.0] * 4
    for _ in range(20_000):
        response = "".join(d if rng.random() < rate else "x1"[d != "1"] for d, rate in zip("4975", RATES, strict=True))
        for j, value in enumerate(true_advantages(response.replace("x", "0"), "4975", RATES)):
            total[j] += value / 20_000
    assert total == pytest.approx([0.0] * 4, abs=0.01)
