"""What a base model of ours can do, by its way of solving: the figures of its model card.

python bench/embedded_model.py [MODEL_OR_RUN] [--problems 512] [--long]
"""

import argparse
from collections import Counter
from pathlib import Path

from fipo.data.made.signed_sums import signed_sums
from fipo.evaluation import avg_at_k, interval, pass_at_k
from fipo.grading.answers.number import grade_number
from fipo.models.corpus import HABITS, LONG_HABITS, way_of
from fipo.models.loading import load, stop_tokens
from fipo.rollout.engine.select import make_sampler
from fipo.rollout.groups import PolicyRoller
from fipo.rollout.prompts import Prompting
from fipo.rollout.sampler import SamplingParams
from fipo.telemetry.clock import Clock
from fipo.telemetry.run_directory import RunDirectory

SAMPLES = 8
MAX_TOKENS, LONG_MAX_TOKENS = 160, 448  # as in recipe/quickstart.toml and recipe/study/long_sums_base.toml


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="embedded", help="as in `fipo sample`")
    parser.add_argument("--problems", type=int, default=512)
    parser.add_argument("--long", action="store_true", help="on long sums, for models/long_sums and its runs")
    arguments = parser.parse_args()
    corpus = LONG_HABITS if arguments.long else HABITS
    model, tokenizer = load(str(RunDirectory(Path(arguments.model)).newest_checkpoint() or arguments.model))
    sampler = make_sampler(model, stop_tokens=stop_tokens(model, tokenizer), slots=256)
    roller = PolicyRoller(
        sampler=sampler,
        tokenizer=tokenizer,
        prompting=Prompting(),
        grade=lambda answers: [grade_number(text, problem) for text, problem in answers],
    )
    terms = {"min_terms": corpus.min_terms, "max_terms": corpus.max_terms}
    problems = signed_sums("eval", arguments.problems, **terms)
    sampled = SamplingParams(temperature=1.0, max_tokens=LONG_MAX_TOKENS if arguments.long else MAX_TOKENS)
    groups = roller.groups(problems, SAMPLES, sampled, seed=0, clock=Clock())

    count: Counter[str] = Counter()
    right: Counter[str] = Counter()
    tokens: Counter[str] = Counter()
    for group in groups:
        for response, text, grade in zip(group.responses, group.texts, group.grades, strict=True):
            way = way_of(text)
            count[way] += 1
            right[way] += grade.correct
            tokens[way] += len(response.tokens)
    print(f"{arguments.model}: {len(problems)} held-out problems, {SAMPLES} samples each, T = 1\n")
    print(f"| {'way':8} | share | correct | mean tokens |\n|---|---|---|---|")
    for way in corpus.ways:
        if count[way]:
            share = count[way] / count.total()
            print(f"| {way:8} | {share:.2f} | {right[way] / count[way]:.2f} | {tokens[way] / count[way]:.0f} |")
    correct = [[grade.correct for grade in group.grades] for group in groups]
    low, high = interval([sum(row) / len(row) for row in correct])
    print(f"\navg@{SAMPLES} {avg_at_k(correct):.3f} [{low:.3f}, {high:.3f}]   pass@{SAMPLES} ", end="")
    print(f"{pass_at_k(correct, SAMPLES):.3f}")


if __name__ == "__main__":
    main()
