"""From a recipe to everything a run works with."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from fipo.beat import Beat
from fipo.data.problem import Problem
from fipo.data.sources import sources_of
from fipo.grading.panel import Graders
from fipo.models.determinism import deterministic_operations, seed_global_generators
from fipo.models.loading import rows_of
from fipo.modules import source_sha256
from fipo.objective import fused
from fipo.rollout.engine import slots
from fipo.rollout.engine.select import make_sampler
from fipo.rollout.groups import PolicyRoller, ProblemStream
from fipo.rollout.problems import PromptLimit, problem_sets, training_sets
from fipo.rollout.sampler import Sampler
from fipo.training.control import Control
from fipo.training.passes import logprobs
from fipo.training.passes.layout import layout_of
from fipo.training.policy.loss_scale import LossScale
from fipo.training.policy.mfu import compute_of
from fipo.training.policy.optimizer import MasterAdamW
from fipo.training.policy.reference import reference_of
from fipo.training.policy.setup import Policy, load_policy
from fipo.training.recipe import Recipe
from fipo.training.trainer import Trainer

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Setup:
    trainer: Trainer
    eval_problems: list[Problem]  # of all sources
    eval_sets: dict[str, int]  # of several sources, the number of problems of each by its name, in their order
    fingerprint: dict[str, str]  # of all that decides a sample, but the recipe and the problems


def set_up(recipe: Recipe, graders: Graders, say: Say, beat: Beat, control: Control | None = None) -> Setup:
    """Load the model and the problems. Raises UserError if the recipe asks for what cannot be."""
    seed_global_generators(recipe.run.seed, step=0)
    deterministic_operations()
    policy = load_policy(recipe, say)
    model, tokenizer = policy.model, policy.tokenizer
    algorithm = recipe.objective.algorithm()
    if model.device.type == "cuda":
        _note_slower_ways(say)
    train, held_out = _problems(recipe, policy, graders, say)
    weights = [source.weight or 1.0 for source in sources_of(recipe.data.train, "data.train").values()]
    longest = recipe.rollout.longest
    sampler = make_sampler(
        model,
        stop_tokens=policy.stop_tokens,
        slots=recipe.rollout.decode_batch,
        longest=longest,
        params=recipe.rollout.params(1),
        beat=beat,
        say=say,
    )
    trainer = Trainer(
        recipe=recipe,
        algorithm=algorithm,
        model=model,
        tokenizer=tokenizer,
        reference=reference_of(recipe, model),
        layout=layout_of(model, say, longest),
        optimizer=MasterAdamW(
            model,
            lr=recipe.update.learning_rate,
            weight_decay=recipe.update.weight_decay,
            kind=recipe.update.optimizer,
        ),
        loss_scale=LossScale() if model.dtype == torch.float16 else None,
        roller=PolicyRoller(
            sampler=sampler,
            tokenizer=tokenizer,
            prompting=recipe.data,
            grade=lambda answers: graders.grade(answers, beat),
            stop_tokens=policy.stop_tokens,
        ),
        stream=ProblemStream(
            [problem for problems in train.values() for problem in problems],
            recipe.run.seed,
            parts=list(zip(map(len, train.values()), weights, strict=True)),
            shuffle=recipe.data.shuffle,
        ),
        compute=compute_of(model),
        control=control,
        beat=beat,
        make_room=lambda: _make_room(sampler, say),
    )
    return Setup(
        trainer=trainer,
        eval_problems=[problem for problems in held_out.values() for problem in problems],
        eval_sets={name: len(held_out[f"data.eval.{name}"]) for name in recipe.data.eval_names},
        fingerprint=policy.fingerprint | _sources(recipe, graders),
    )


def _note_slower_ways(say: Say) -> None:
    """What has Triton kernels that do not run here, with the reason: one line for each reason."""
    obstacles = {
        "the objective": fused.obstacle(),
        "scoring": logprobs.obstacle(),
        "attention of sampling": slots.obstacle(),
    }
    for reason in dict.fromkeys(filter(None, obstacles.values())):
        affected = [what for what, why in obstacles.items() if why == reason]
        say(f"note: by torch's operations, which is slower: {', '.join(affected)}: {reason}")


def _sources(recipe: Recipe, graders: Graders) -> dict[str, str]:
    """SHA-256 of the user's own modules."""
    surrogate = recipe.objective.surrogate or ""
    sources = {
        "grader": graders.source,
        "surrogate": source_sha256(surrogate.partition(":")[0]) if ":" in surrogate else None,
    }
    return {name: source for name, source in sources.items() if source}


def _make_room(sampler: Sampler, say: Say) -> None:
    say(
        "note: a pass of training ran out of memory and begins again without the sampler's, which takes time; smaller "
        "rollout.decode_batch and update.tokens_per_micro_batch need less"
    )
    sampler.release()


def _problems(
    recipe: Recipe, policy: Policy, graders: Graders, say: Say
) -> tuple[dict[str, list[Problem]], dict[str, list[Problem]]]:
    """(training, held-out) problems of each source by its key: no question in both. What goes is counted."""
    data, seed = recipe.data, recipe.run.seed
    limit = PromptLimit(
        tokenizer=policy.tokenizer,
        prompting=data,
        max_tokens=recipe.rollout.max_prompt_tokens,
        rows=rows_of(policy.model),
    )
    held_out = problem_sets(
        sources_of(data.eval, "data.eval"), "eval", data, graders=graders, seed=seed, limit=limit, say=say
    )
    train = problem_sets(
        sources_of(data.train, "data.train"), "train", data, graders=graders, seed=seed, limit=limit, say=say
    )
    return training_sets(train, [problem for problems in held_out.values() for problem in problems], say), held_out
