"""Runs of the small recipe (see conftest.py), trainers of updates, and groups of random responses."""

import random
import shutil
from pathlib import Path

import torch
from transformers import PreTrainedModel

from fipo.beat import no_beat
from fipo.data.problem import Problem
from fipo.grading.grade import Grade
from fipo.objective import Algorithm
from fipo.rollout.groups import Group, ProblemStream
from fipo.rollout.sampler import Response
from fipo.telemetry.run_directory import RunDirectory
from fipo.training import load_recipe, train
from fipo.training.policy.loss_scale import LossScale
from fipo.training.policy.mfu import compute_of
from fipo.training.trainer import Trainer

QUICKSTART = Path(__file__).parents[2] / "recipe" / "quickstart.toml"


def run_recipe(folder: Path, name: str, *, resume: bool = False, **overrides: str) -> RunDirectory:
    """`run_recipe(folder, "first", run__steps="2")`: overrides with __ in place of the dot."""
    settings = {key.replace("__", "."): value for key, value in overrides.items()}
    return train(load_recipe(folder / "recipe.toml", {"run.name": name, **settings}), resume=resume)


def trainer_of(
    model: PreTrainedModel,
    algorithm: Algorithm,
    optimizer: torch.optim.Optimizer,
    *,
    max_grad_norm: float = 1e9,
    longest: int = 12,
    temperature: float = 1.0,
) -> Trainer:
    """What an update works with; it samples nothing."""
    settings = {
        "update.max_grad_norm": str(max_grad_norm),
        "rollout.max_response_tokens": str(longest),
        "rollout.temperature": str(temperature),
    }
    return Trainer(
        recipe=load_recipe(QUICKSTART, settings),
        algorithm=algorithm,
        model=model,
        tokenizer=None,
        reference=None,
        layout="packed",
        optimizer=optimizer,
        loss_scale=LossScale() if model.dtype == torch.float16 else None,
        roller=None,
        stream=ProblemStream([], seed=0),
        compute=compute_of(model),
        control=None,
        beat=no_beat,
    )


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


def keep(folder: Path) -> Path:
    """A copy of `folder` is kept beside it, for `restored`."""
    shutil.copytree(folder, folder.with_name("kept"))
    return folder


def restored(folder: Path) -> Path:
    """`folder` as it was kept, at the path that what is in it knows."""
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("kept"), folder)
    return folder
