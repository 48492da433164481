"""Answers per second of every grader, through the pool of killable workers that a training run uses.

    python bench/graders.py [--workers 2] [--answers 4000]

Responses are made up: 2,000 characters of reasoning with a few numbers, then an answer, right in half of them; eight
responses share a problem. Times are wall clock, without the start of the workers, best of three turns over all the
graders. --save: to bench/results/graders.json.
"""

import argparse
import random
import time

from machine import add_save, machine, save

from fipo.data.made.countdown import countdown
from fipo.data.problem import Problem
from fipo.grading.workers.pool import GraderPool

LENGTH = 2000  # characters
GROUP = 8
TURNS = 3
WORDS = ("so", "then", "we", "add", "the", "two", "sides", "and", "get", "a", "value", "which", "is", "more", "than")
LATEX = ["\\frac{{{n}}}{{7}}", "\\sqrt{{{n}}}", "{n}\\pi", "x^2+{n}x+1", "\\left({n}, 3\\right)"]
SHARE = {"math": 10, "reasoning_gym": 10}  # slower ones get that much fewer answers

Answers = list[tuple[str, Problem]]


def reasoning(rng: random.Random) -> str:
    words: list[str] = []
    while sum(map(len, words)) + len(words) < LENGTH:
        words.append(str(rng.randint(0, 999)) if rng.random() < 0.05 else rng.choice(WORDS))
    return " ".join(words)


def problem(number: int, answer: str) -> Problem:
    return Problem(id=f"bench/{number}", prompt=f"What is number {number}?", answer=answer, source="bench")


def respond(problems: list[Problem], frame: str, rng: random.Random) -> Answers:
    """GROUP responses to each problem; every second one gives the answer of another problem."""
    other = [*problems[1:], problems[0]]
    return [
        (reasoning(rng) + frame.format(given.answer), asked)
        for asked, wrong in zip(problems, other, strict=True)
        for given in [asked, wrong] * (GROUP // 2)
    ]


def workload(grader: str, count: int) -> Answers:
    rng = random.Random(0)
    count = max(count // SHARE.get(grader, 1) // GROUP, 2)
    match grader:
        case "math":
            latex = [LATEX[number % len(LATEX)].format(n=number + 2) for number in range(count)]
            return respond([problem(number, text) for number, text in enumerate(latex)], "\n\\boxed{{{}}}", rng)
        case "countdown":
            return respond(countdown("train", count, 0), "\nAnswer: {}", rng)
        case "reasoning_gym":
            return respond(gym_problems(count), "\n<answer>{}</answer>", rng)
        case _:
            return respond([problem(number, str(number)) for number in range(count)], "\nAnswer: {}", rng)


def gym_problems(count: int) -> list[Problem]:
    import reasoning_gym

    shared = {"task": "chain_sum", "seed": 0, "size": count, "options": {}}
    dataset = reasoning_gym.create_dataset("chain_sum", seed=0, size=count)
    return [
        Problem(
            id=f"bench/{index}",
            prompt=entry["question"],
            answer=entry["answer"],
            source="bench",
            metadata=shared | {"index": index},
        )
        for index, entry in enumerate(dataset)
    ]


def measure(grader: str, answers: Answers, workers: int) -> dict[str, float]:
    with GraderPool(grader, workers=workers, deadline_seconds=10, memory_mib=1024) as pool:
        started = time.perf_counter()
        pool.start()
        ready = time.perf_counter()
        grades = pool.grade(answers)
        seconds = time.perf_counter() - ready
    return {
        "answers": len(answers),
        "start_s": ready - started,
        "per_second": len(answers) / seconds,
        "correct": sum(grade.correct for grade in grades) / len(grades),
        "failed": sum(grade.failed for grade in grades) / len(grades),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Answers per second of every grader.")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--answers", type=int, default=4000)
    add_save(parser)
    options = parser.parse_args()
    graders = ["number", "exact", "dapo", "countdown", "math", "reasoning_gym"]
    loads = {grader: workload(grader, options.answers) for grader in graders}
    turns = [{grader: measure(grader, loads[grader], options.workers) for grader in graders} for _ in range(TURNS)]
    best = {grader: max((turn[grader] for turn in turns), key=lambda row: row["per_second"]) for grader in graders}

    print(f"grading with {options.workers} workers, responses of {LENGTH} characters")
    print(machine())
    print(f"{'grader':>14} {'answers':>8} {'per second':>11} {'start s':>8} {'correct':>8} {'failed':>7}")
    for grader, row in best.items():
        print(
            f"{grader:>14} {row['answers']:>8} {row['per_second']:>11.0f} {row['start_s']:>8.2f} "
            f"{row['correct']:>8.2f} {row['failed']:>7.2f}"
        )
    save("graders", {"workers": options.workers, "characters": LENGTH, "results": best}, kept=options.save)


if __name__ == "__main__":
    main()
