"""Runs of the small recipe (see conftest.py), and groups of random responses with chosen lengths and outcomes."""

import random
from pathlib import Path

from fipo.data.problem import Problem
from fipo.grading.registry import Grade
from fipo.rollout.groups import Group
from fipo.rollout.sampler import Response
from fipo.telemetry.run_directory import RunDirectory
from fipo.training import load_recipe, train


def run_recipe(folder: Path, name: str, *, resume: bool = False, **overrides: str) -> RunDirectory:
    """`run_recipe(folder, "first", run__steps="2")`: overrides with __ in place of the dot."""
    settings = {key.replace("__", "."): value for key, value in overrides.items()}
    return train(load_recipe(folder / "recipe.toml", {"run.name": name, **settings}), resume=resume)


def random_groups(
    count: int, group_size: int, *, seed: int = 0, longest: int = 12, vocabulary: int = 48
) -> list[Group]:
    """Mixed groups: the first response is correct, the last one wrong, those between by chance."""
    rng = random.Random(seed)
    groups = []
    for i in range(count):
        responses, grades = [], []
        for j in range(group_size):
            length = rng.randint(1, longest)
            tokens = [rng.randrange(2, vocabulary) for _ in range(length)]
            responses.append(
                Response(
                    tokens=tokens,
                    logprobs=[-1.0] * length,
                    sampling_logprobs=[-1.0] * length,
                    truncated=length == longest,
                )
            )
            correct = j == 0 or (j < group_size - 1 and rng.random() < 0.5)
            grades.append(Grade(outcome="correct" if correct else "wrong", answer=str(j)))
        groups.append(
            Group(
                problem=Problem(id=str(i), prompt=str(i), answer="0", source="test"),
                prompt_tokens=[rng.randrange(2, vocabulary) for _ in range(rng.randint(1, 6))],
                responses=responses,
                texts=[str(r.tokens) for r in responses],
                grades=grades,
            )
        )
    return groups
