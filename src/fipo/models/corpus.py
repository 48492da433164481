"""The pretraining corpus of the embedded model: signed sums solved in four ways of different cost and reliability.

The steps of the longer ways carry mistakes on purpose, at a fixed rate for each number of terms added at
once. What the model can gain by reinforcement learning is therefore a choice (which way of solving) and a
sharpening (fewer copied mistakes), not the arithmetic itself, which it has already seen.
"""

import random
from dataclasses import dataclass

from fipo.tasks.signed_sums import draw_terms, question

STEP, CHECK, MISMATCH, ANSWER = ";", "?", "x", "#"
ALPHABET = "0123456789+-=" + STEP + CHECK + MISMATCH + ANSWER
WAYS = {"direct": 0.50, "coarse": 0.25, "fine": 0.15, "checked": 0.10}
MISTAKE_RATE = {1: 0.04, 2: 0.12, 3: 0.25}  # by the number of terms added in one step
LARGEST_MISTAKE = 10


@dataclass(frozen=True, kw_only=True)
class Example:
    prompt: str
    response: str
    way: str


def draw_example(rng: random.Random) -> Example:
    """One question of the pretraining split with a solution in a randomly chosen way."""
    terms = draw_terms(rng, "pretrain")
    way = rng.choices(list(WAYS), weights=list(WAYS.values()))[0]
    response = {"direct": _direct, "coarse": _coarse, "fine": _fine, "checked": _checked}[way](terms, rng)
    return Example(prompt=question(terms), response=response, way=way)


def way_of(response: str) -> str:
    """Which of the four ways a response follows, read from its form alone."""
    if CHECK in response:
        return "checked"
    if "=" not in response:
        return "direct"
    steps = response.split(ANSWER)[0].split(STEP)
    signs = [sum(sign in "+-" for sign in step.split("=")[0][1:]) for step in steps]
    return "coarse" if max(signs) > 1 else "fine"


def _direct(terms: list[int], rng: random.Random) -> str:
    return f"{ANSWER}{sum(terms)}"


def _coarse(terms: list[int], rng: random.Random) -> str:
    sizes, left = [], len(terms) - 1
    while left:
        sizes.append(min(left, rng.choice((2, 3))))
        left -= sizes[-1]
    steps, total = _steps(terms, sizes, rng)
    return f"{steps}{ANSWER}{total}"


def _fine(terms: list[int], rng: random.Random) -> str:
    steps, total = _steps(terms, [1] * (len(terms) - 1), rng)
    return f"{steps}{ANSWER}{total}"


def _checked(terms: list[int], rng: random.Random) -> str:
    """Fine steps, the same sum in reverse order, and once more from the start if the two disagree."""
    single = [1] * (len(terms) - 1)
    steps, total = _steps(terms, single, rng)
    check, check_total = _steps(terms[::-1], single, rng)
    text = f"{steps}{CHECK}{check}"
    if check_total != total:
        redo, total = _steps(terms, single, rng)
        text += f"{MISMATCH}{redo}"
    return f"{text}{ANSWER}{total}"


def _steps(terms: list[int], sizes: list[int], rng: random.Random) -> tuple[str, int]:
    """Running totals such as `12-7=5;5+30=35`, `sizes[i]` terms at a time, and the last total."""
    total, position, steps = terms[0], 1, []
    for size in sizes:
        added = terms[position : position + size]
        result = total + sum(added)
        if rng.random() < MISTAKE_RATE[size]:
            result += rng.choice((1, -1)) * rng.randint(1, LARGEST_MISTAKE)
        steps.append(f"{total}{''.join(f'{term:+d}' for term in added)}={result}")
        total, position = result, position + size
    return STEP.join(steps), total
