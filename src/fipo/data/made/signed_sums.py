"""Sums of signed terms such as `7-3+9-8+2=`: the problems of the embedded default.

Whether a question belongs to pretraining, training or evaluation is decided by a hash of its text alone,
so the three can never share a question, whatever the seeds and counts.
"""

import random
from hashlib import blake2b
from typing import Literal

from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.seeding import derive_seed

Split = Literal["pretrain", "train", "eval"]
MIN_TERMS, MAX_TERMS = 5, 8  # of the embedded default
LARGEST_TERM = 9
PATIENCE = 10_000  # draws without a new question until there are no more of them


def split_of(question: str) -> Split:
    """Where a question belongs: 70% pretraining, 20% training, 10% evaluation."""
    bucket = int.from_bytes(blake2b(question.encode(), digest_size=4).digest(), "big") % 10
    return "eval" if bucket == 0 else "train" if bucket <= 2 else "pretrain"


def draw_terms(rng: random.Random, split: Split, min_terms: int = MIN_TERMS, max_terms: int = MAX_TERMS) -> list[int]:
    """The signed terms of one random question of a split; the first term is positive."""
    while True:
        count = rng.randint(min_terms, max_terms)
        terms = [rng.randint(1, LARGEST_TERM) for _ in range(count)]
        terms[1:] = [term * rng.choice((1, -1)) for term in terms[1:]]
        if split_of(question(terms)) == split:
            return terms


def question(terms: list[int]) -> str:
    """`[7, -3, 9]` as `7-3+9=`."""
    return str(terms[0]) + "".join(f"{term:+d}" for term in terms[1:]) + "="


def signed_sums(
    split: Split, count: int, seed: int = 0, min_terms: int = MIN_TERMS, max_terms: int = MAX_TERMS
) -> list[Problem]:
    """`count` distinct problems of one split. Raises UserError if there are not that many."""
    rng = random.Random(derive_seed(seed, "signed_sums", split))
    answers: dict[str, int] = {}
    misses = 0
    while len(answers) < count:
        terms = draw_terms(rng, split, min_terms, max_terms)
        misses = misses + 1 if question(terms) in answers else 0
        if misses > PATIENCE:
            raise UserError(f"data: signed_sums has too few such questions: got {len(answers)} of {count}")
        answers[question(terms)] = sum(terms)
    return [
        Problem(id=f"signed_sums/{text[:-1]}", prompt=text, answer=str(total), source="signed_sums")
        for text, total in answers.items()
    ]
