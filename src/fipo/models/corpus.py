"""The pretraining corpus of the embedded model: signed sums solved in four ways of different cost and reliability.

The steps of the longer ways carry mistakes on purpose, at a fixed rate for each number of terms added at
once. What the model can gain by reinforcement learning is therefore a choice (which way of solving) and a
sharpening (fewer copied mistakes), not the arithmetic itself, which it has already seen.
"""

import random
from dataclasses import dataclass, field, replace
from typing import Literal

from fipo.data.made.relay import DIGITS, LETTERS, Filler
from fipo.data.made.relay import answer as relay_answer
from fipo.data.made.relay import question as relay_question
from fipo.data.made.relay import questions_of as relay_questions
from fipo.data.made.signed_sums import MAX_TERMS, MIN_TERMS, draw_terms, question

STEP, CHECK, MISMATCH, ANSWER = ";", "?", "x", "#"
ALPHABET = "0123456789+-=" + STEP + CHECK + MISMATCH + ANSWER
LARGEST_MISTAKE = 5


@dataclass(frozen=True, kw_only=True)
class Solution:
    prompt: str
    response: str
    way: str


@dataclass(frozen=True, kw_only=True)
class Corpus:
    ways: dict[str, float]  # how often each way of solving is chosen
    mistake_rates: dict[int, float]  # by the number of terms added in one step
    # Not in the repr: it names the stream of examples that the embedded model was made from.
    min_terms: int = field(default=MIN_TERMS, repr=False)
    max_terms: int = field(default=MAX_TERMS, repr=False)
    check: Literal["reverse", "undo"] = field(default="reverse", repr=False)

    def draw(self, rng: random.Random) -> Solution:
        """One question of the pretraining split with a solution in a randomly chosen way."""
        terms = draw_terms(rng, "pretrain", self.min_terms, self.max_terms)
        way = rng.choices(list(self.ways), weights=list(self.ways.values()))[0]
        return Solution(prompt=question(terms), response=self._solve(terms, way, rng), way=way)

    def _solve(self, terms: list[int], way: str, rng: random.Random) -> str:
        match way:
            case "direct":
                return f"{ANSWER}{sum(terms)}"
            case "coarse":
                text, total = self._steps(terms, rng, _coarse_sizes(len(terms) - 1, rng))
            case "fine":
                text, total = self._steps(terms, rng)
            case _:
                text, total = self._checked(terms, rng)
        return f"{text}{ANSWER}{total}"

    def _checked(self, terms: list[int], rng: random.Random) -> tuple[str, int]:
        """The sum, then a check of it, and once more from the start if the two disagree."""
        text, total = self._steps(terms, rng)
        if self.check == "reverse":  # the same sum from its last term to its first
            check, found = self._steps(terms[::-1], rng)
            agrees = found == total
        else:  # from the total back to 0, first term first
            check, found = self._steps([total, *(-term for term in terms)], rng)
            agrees = found == 0
        text += CHECK + check
        if not agrees:
            redo, total = self._steps(terms, rng)
            text += MISMATCH + redo
        return text, total

    def _steps(self, terms: list[int], rng: random.Random, sizes: list[int] | None = None) -> tuple[str, int]:
        """Running totals such as `7-3=4;4+9=13`, `sizes[i]` terms at a time or one by one, and the last total."""
        total, position, steps = terms[0], 1, []
        for size in sizes or [1] * (len(terms) - 1):
            added = terms[position : position + size]
            result = total + sum(added)
            if rng.random() < self.mistake_rates[size]:
                result += rng.choice((1, -1)) * rng.randint(1, LARGEST_MISTAKE)
            steps.append(f"{total}{''.join(f'{term:+d}' for term in added)}={result}")
            total, position = result, position + size
        return STEP.join(steps), total


LESSONS = Corpus(  # first: the arithmetic, without a mistake
    ways={"coarse": 0.20, "fine": 0.30, "checked": 0.50}, mistake_rates={1: 0.0, 2: 0.0, 3: 0.0}
)
HABITS = Corpus(  # then: the mixture of ways that the base model is to have
    ways={"direct": 0.45, "coarse": 0.25, "fine": 0.20, "checked": 0.10}, mistake_rates={1: 0.06, 2: 0.15, 3: 0.30}
)

LONG_LESSONS = Corpus(  # the same for the base model of docs/evidence.md: sums that a direct answer mostly gets wrong
    ways={"fine": 0.35, "checked": 0.65}, mistake_rates={1: 0.01}, min_terms=9, max_terms=12, check="undo"
)
LONG_HABITS = replace(LONG_LESSONS, ways={"direct": 0.50, "fine": 0.32, "checked": 0.18}, mistake_rates={1: 0.04})


@dataclass(frozen=True, kw_only=True)
class RelayCorpus:
    """Relays (`fipo.data.made.relay`) of the pretraining split, with mistakes at a fixed rate a block."""

    mistake_rate: float
    fillers: tuple[Filler, ...]
    questions: tuple[str, ...] = field(default_factory=lambda: tuple(relay_questions("pretrain")), repr=False)

    def draw(self, rng: random.Random) -> Solution:
        digits, filler = rng.choice(self.questions), rng.choice(self.fillers)
        response = ""
        for right in relay_answer(digits):
            wrong = rng.random() < self.mistake_rate
            digit = rng.choice([other for other in DIGITS if other != right]) if wrong else right
            response += "".join(rng.choices(LETTERS, k=filler)) + digit
        return Solution(prompt=relay_question(digits, filler), response=response, way=str(filler))


RELAY_LESSONS = RelayCorpus(mistake_rate=0.0, fillers=(0, 8))
RELAY_HABITS = replace(RELAY_LESSONS, mistake_rate=0.15)
RELAY_LONG_LESSONS = replace(RELAY_LESSONS, fillers=(64,))
RELAY_LONG_HABITS = replace(RELAY_HABITS, fillers=(64,))


def way_of(response: str) -> str:
    """Which of the four ways a response follows, read from its form alone."""
    if CHECK in response:
        return "checked"
    if "=" not in response:
        return "direct"
    steps = response.split(ANSWER)[0].split(STEP)
    added = [sum(sign in "+-" for sign in step.split("=")[0][1:]) for step in steps]
    return "coarse" if max(added) > 1 else "fine"


def _coarse_sizes(count: int, rng: random.Random) -> list[int]:
    """`count` terms in portions of two or three, the last one being what is left."""
    sizes = []
    while count:
        sizes.append(min(count, rng.choice((2, 3))))
        count -= sizes[-1]
    return sizes
