"""Relay: four digits are passed on, one a block, between letters that mean nothing. Made so that credit is known.

The prompt `3741:8=` asks for four blocks of 8 filler letters and one digit each; the digit of block k = 1 to 4 is
(prompt digit k + k) mod 10, and all four decide. What is right depends on no letter, so the true advantage of a letter
is 0, and that of a digit is the change that it makes to the product of the blocks' probabilities.

Whether a question belongs to pretraining, training or evaluation is decided by a hash of its four digits alone.
"""

import random
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import product
from math import prod
from typing import Literal

from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.seeding import derive_seed

Split = Literal["pretrain", "train", "eval"]
Filler = Literal[0, 8, 64]

BLOCKS = 4
DIGITS = "0123456789"
LETTERS = "abcdefgh"  # chosen evenly: ln 8 = 2.08 nats each
ALPHABET = DIGITS + LETTERS + ":="


def question(digits: str, filler: int) -> str:
    return f"{digits}:{filler}="


def answer(digits: str) -> str:
    """`3741` as `4975`: each digit, and its place from 1 added, mod 10."""
    return "".join(str((int(digit) + place) % 10) for place, digit in enumerate(digits, start=1))


def decisions(response: str) -> str:
    """The digits of a response, in order: all of it that counts."""
    return "".join(character for character in response if character in DIGITS)


def block_rates(responses: Iterable[tuple[str, str]]) -> list[float]:
    """In (response, answer) pairs, how often each block is right where all before it are. 0 where none gets there."""
    right, reached = [0] * BLOCKS, [0] * BLOCKS
    for response, wanted in responses:
        for j, (found, digit) in enumerate(zip(decisions(response), wanted, strict=False)):
            reached[j] += 1
            right[j] += found == digit
            if found != digit:
                break
    return [r / n if n else 0.0 for r, n in zip(right, reached, strict=True)]


def true_advantages(response: str, wanted: str, rates: Sequence[float]) -> list[float]:
    """Each character's, if blocks are right with these probabilities: the change of the probability of being right.

    0 on letters; on digit j: [all before are right] ([it is right] - rate_j) x the product of the rates after it.
    """
    advantages, j, still = [], 0, 1.0
    for character in response:
        if character not in DIGITS or j >= BLOCKS:
            advantages.append(0.0)
            continue
        right = float(character == wanted[j])
        advantages.append(still * (right - rates[j]) * prod(rates[j + 1 :]))
        still *= right
        j += 1
    return advantages


def questions_of(split: Split) -> list[str]:
    """The four digits of every question of a split: 70% pretraining, 20% training, 10% evaluation."""
    return [digits for digits in map("".join, product(DIGITS, repeat=BLOCKS)) if _split_of(digits) == split]


def _split_of(digits: str) -> Split:
    bucket = int.from_bytes(blake2b(digits.encode(), digest_size=4).digest(), "big") % 10
    return "eval" if bucket == 0 else "train" if bucket <= 2 else "pretrain"


def relay(split: Split, count: int, seed: int = 0, *, filler: Filler = 8) -> list[Problem]:
    """`count` distinct problems of one split with `filler` letters in a block. Raises UserError for too many."""
    possible = questions_of(split)
    if count > len(possible):
        raise UserError(f"data: relay has {len(possible)} {split} questions, got count = {count}")
    chosen = random.Random(derive_seed(seed, "relay", split)).sample(possible, count)
    return [
        Problem(id=f"relay/{digits}:{filler}", prompt=question(digits, filler), answer=answer(digits), source="relay")
        for digits in chosen
    ]
