"""Countdown: from given numbers, each used exactly once, make a target with + - * / and parentheses.

Whether a question belongs to training or evaluation is decided by a hash of its target and its numbers in ascending
order, so the two can never share a question, whatever the seeds, the counts and the form.
"""

import random
import re
from hashlib import blake2b
from typing import Literal

from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.seeding import derive_seed

Role = Literal["train", "eval"]
Operator = Literal["+", "-", "*", "/"]
Form = Literal["instructions", "bare"]
Order = Literal["ascending", "solution"]

LARGEST_TARGET = 999
PATIENCE = 10_000  # draws without a new question until there are no more of them


def countdown(
    role: Role,
    count: int,
    seed: int,
    *,
    terms: tuple[int, int] = (3, 4),
    largest: int = 99,
    operators: tuple[Operator, ...] = ("+", "-", "*", "/"),
    form: Form = "instructions",
    order: Order = "ascending",
) -> list[Problem]:
    """`count` distinct problems, each with a solution, of `terms` (fewest, most) numbers from 1 to `largest`.

    A problem's answer is one solution; its metadata holds what decides: the numbers and the target. They are listed in
    ascending order, or in that of the solution, so that only its operators are to be found.
    Raises UserError if there are not that many.
    """
    rng = random.Random(derive_seed(seed, "countdown", role))
    problems: dict[str, Problem] = {}
    misses = 0
    while len(problems) < count:
        problem = _drawn(rng, rng.randint(*terms), largest, operators, form, order)
        if problem is None or split_of(problem) != role or problem.text in problems:
            misses += 1
            if misses > PATIENCE:
                raise UserError(f"data: countdown has too few such questions: got {len(problems)} of {count}")
            continue
        misses = 0
        problems[problem.text] = problem
    return list(problems.values())


def split_of(problem: Problem) -> Role:
    """Where a problem belongs, however it is put: 90% training, 10% evaluation."""
    text = question(problem.metadata["numbers"], problem.metadata["target"], "instructions")
    bucket = int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big") % 10
    return "eval" if bucket == 0 else "train"


def question(numbers: list[int], target: int, form: Form) -> str:
    """The prompt: what is to be done, or the data alone, for a model that has seen examples."""
    listed = ", ".join(map(str, numbers))
    if form == "bare":
        return f"Numbers: {listed}. Target: {target}. Answer:"
    return (
        f"Make {target} from the numbers {listed}. Use each number exactly once, with +, -, *, / and parentheses. "
        "End with the expression on a line of its own, in the form `Answer: expression`."
    )


def _drawn(
    rng: random.Random, terms: int, largest: int, operators: tuple[Operator, ...], form: Form, order: Order
) -> Problem | None:
    """A problem made from a random expression, or None where that one will not do."""
    numbers = [rng.randint(1, largest) for _ in range(terms)]
    parts = [(number, str(number)) for number in numbers]
    while len(parts) > 1:
        left, right = (parts.pop(rng.randrange(len(parts))) for _ in range(2))
        results = [(_result(operator, left[0], right[0]), operator) for operator in operators]
        possible = [(value, operator) for value, operator in results if value is not None]
        if not possible:
            return None
        value, operator = rng.choice(possible)
        parts.append((value, f"({left[1]} {operator} {right[1]})"))
    target, text = parts[0]
    if not 1 <= target <= LARGEST_TARGET or target in numbers:
        return None
    listed = [int(digits) for digits in re.findall("[0-9]+", text)] if order == "solution" else sorted(numbers)
    prompt = question(listed, target, form)
    return Problem(
        id=f"countdown/{derive_seed(0, prompt):016x}",
        prompt=prompt,
        answer=text[1:-1],
        source="countdown",
        metadata={"numbers": sorted(numbers), "target": target},
    )


def _result(operator: Operator, left: int, right: int) -> int | None:
    """None unless it is an integer not far from the targets: else few expressions of many terms would do."""
    match operator:
        case "+":
            value = left + right
        case "-":
            value = left - right
        case "*":
            value = left * right
        case "/":
            if right == 0 or left % right:
                return None
            value = left // right
    return value if abs(value) <= 2 * LARGEST_TARGET else None
