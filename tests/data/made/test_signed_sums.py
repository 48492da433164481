import random
import re
from pathlib import Path

import pytest

from fipo.data.bad_rows import BadRows
from fipo.data.made.signed_sums import LARGEST_TERM, MAX_TERMS, MIN_TERMS, question, signed_sums, split_of
from fipo.data.sources import load_problems
from fipo.models.corpus import HABITS, LESSONS
from fipo.seeding import derive_seed
from fipo.training.recipe import load_recipe

FORM = re.compile(rf"\d+([+-]\d+){{{MIN_TERMS - 1},{MAX_TERMS - 1}}}=")
QUICKSTART = Path(__file__).parents[3] / "recipe" / "quickstart.toml"


@pytest.fixture(scope="module")
def quickstart():
    """(training, held-out) problems, as many as the quickstart recipe asks for."""
    recipe = load_recipe(QUICKSTART, {})

    def problems(role):
        loaded = load_problems(getattr(recipe.data, role), role, recipe.run.seed, BadRows(0, print)).problems
        return [placed.problem for placed in loaded]

    return problems("train"), problems("eval")


@pytest.fixture(scope="module")
def corpus():
    """Questions of the embedded model's pretraining, from the seeds that made it."""
    return {
        corpus.draw(rng).prompt
        for corpus in (LESSONS, HABITS)
        for rng in [random.Random(derive_seed(0, "corpus", repr(corpus)))]
        for _ in range(10_000)
    }


def texts(problems):
    return {problem.text for problem in problems}


def test_the_quickstart_trains_on_no_question_that_it_evaluates(quickstart):
    train, held_out = quickstart
    assert len(train) > 4_000 and len(held_out) > 100
    assert not texts(train) & texts(held_out)


def test_pretraining_saw_no_question_of_training_or_evaluation(corpus, quickstart):
    assert len(corpus) > 19_000
    for problems in quickstart:
        assert not corpus & texts(problems)


def test_every_question_belongs_to_the_split_that_drew_it(corpus, quickstart):
    for split, questions in zip(("pretrain", "train", "eval"), (corpus, *map(texts, quickstart)), strict=True):
        assert {split_of(text) for text in questions} == {split}


def test_splits_stay_disjoint_between_seeds():
    train = set().union(*(texts(signed_sums("train", 500, seed)) for seed in range(4)))
    held_out = set().union(*(texts(signed_sums("eval", 500, seed)) for seed in range(4)))
    assert len(train) > 1900 and len(held_out) > 1900
    assert not train & held_out


def test_the_split_of_a_question_is_fixed_for_ever():
    """The embedded model was pretrained on one of them: another hash would leak it into evaluation."""
    questions = ("12-7+30-45=", "50-2+3-4=", "1+1+1+1=", "99-98-97-96=", "1+2+3+4=")
    assert [split_of(text) for text in questions] == ["train", "train", "pretrain", "pretrain", "eval"]


def test_about_seven_two_and_one_in_ten_questions_are_pretraining_training_and_evaluation():
    rng = random.Random(0)
    splits = [split_of(question([rng.randint(1, 99) for _ in range(5)])) for _ in range(10_000)]
    for split, share in (("pretrain", 0.7), ("train", 0.2), ("eval", 0.1)):
        assert abs(splits.count(split) / len(splits) - share) < 0.02


@pytest.mark.parametrize("split", ["pretrain", "train", "eval"])
def test_a_problem_is_a_signed_sum_and_its_answer_is_what_python_says(split):
    for problem in signed_sums(split, 300, seed=3):
        assert FORM.fullmatch(problem.text)
        assert all(1 <= int(term) <= LARGEST_TERM for term in re.findall(r"\d+", problem.text))
        assert problem.answer == str(eval(problem.text[:-1]))
        assert problem.id == f"signed_sums/{problem.text[:-1]}"
        assert problem.source == "signed_sums"


def test_the_quickstart_leaves_out_no_problem_for_its_length(quickstart):
    """The embedded model reads one token per character."""
    longest = max(len(text) for problems in quickstart for text in texts(problems))
    assert longest == load_recipe(QUICKSTART, {}).rollout.max_prompt_tokens


def test_problems_are_distinct_and_as_many_as_asked(quickstart):
    for problems in (*quickstart, signed_sums("eval", 7, seed=1)):
        assert len(texts(problems)) == len({problem.id for problem in problems}) == len(problems)
    assert len(signed_sums("eval", 7, seed=1)) == 7


def test_a_seed_always_gives_the_same_problems_and_another_seed_others():
    assert signed_sums("train", 50, seed=5) == signed_sums("train", 50, seed=5)
    assert not texts(signed_sums("train", 50, seed=5)) & texts(signed_sums("train", 50, seed=6))


def test_a_smaller_count_is_the_beginning_of_a_larger_one():
    assert signed_sums("eval", 20) == signed_sums("eval", 40)[:20]


def test_terms_are_written_with_their_signs():
    assert question([12, -7, 30]) == "12-7+30="
