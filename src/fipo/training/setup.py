"""From a recipe to everything a run works with."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import PreTrainedTokenizerBase

from fipo.data.problem import Problem
from fipo.data.repeats import without
from fipo.data.sources import Role, Source
from fipo.errors import UserError
from fipo.grading.workers.pool import GraderPool
from fipo.models.loading import device_of, dtype_of, load, stop_tokens
from fipo.rollout.engine.select import make_sampler
from fipo.rollout.groups import ProblemStream, Roller
from fipo.rollout.problems import usable_problems
from fipo.rollout.prompts import stopping_at
from fipo.training.control import Control
from fipo.training.determinism import seed_global_generators
from fipo.training.passes.layout import layout_of
from fipo.training.passes.recompute import check_recomputing
from fipo.training.policy.lora import adapt
from fipo.training.policy.mfu import compute_of
from fipo.training.policy.optimizer import MasterAdamW
from fipo.training.policy.reference import reference_of
from fipo.training.recipe import Recipe
from fipo.training.step import Trainer

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Setup:
    trainer: Trainer
    eval_problems: list[Problem]


def set_up(
    recipe: Recipe, graders: GraderPool, say: Say, beat: Callable[[], None], control: Control | None = None
) -> Setup:
    """Load the model and the problems. Raises UserError if the recipe asks for what cannot be."""
    device = device_of(recipe.run.device, key="run.device")
    seed_global_generators(recipe.run.seed, step=0)
    torch.use_deterministic_algorithms(True, warn_only=True)
    model, tokenizer = load(recipe.model.path, device, dtype_of(recipe.model.dtype, device))
    if recipe.model.lora is not None:
        adapt(model, recipe.model.lora)
    _check_context(recipe, getattr(model.config, "max_position_embeddings", None))
    stops = stop_tokens(model, tokenizer)
    stops += stopping_at(recipe.rollout.stop, tokenizer, key="rollout.stop")
    if not stops:
        say(f"note: {recipe.model.path} names no stop token, so every response will be truncated")
    algorithm = recipe.objective.algorithm()
    for note in algorithm.config.notes():
        say(f"note: {note}")
    if recipe.update.gradient_checkpointing:
        check_recomputing(model)
    train, held_out = _problems(recipe, tokenizer, say)
    trainer = Trainer(
        recipe=recipe,
        algorithm=algorithm,
        model=model,
        reference=reference_of(recipe, model),
        layout=layout_of(model, say),
        optimizer=MasterAdamW(
            model,
            lr=recipe.update.learning_rate,
            weight_decay=recipe.update.weight_decay,
            kind=recipe.update.optimizer,
        ),
        roller=Roller(
            sampler=make_sampler(model, stop_tokens=stops, slots=recipe.rollout.decode_batch, beat=beat, say=say),
            tokenizer=tokenizer,
            prompting=recipe.data,
            grade=lambda answers: graders.grade(answers, beat),
        ),
        stream=ProblemStream(train, recipe.run.seed),
        compute=compute_of(model),
        control=control,
        beat=beat,
    )
    return Setup(trainer=trainer, eval_problems=held_out)


def _check_context(recipe: Recipe, context: int | None) -> None:
    needed = recipe.rollout.max_prompt_tokens + recipe.rollout.max_response_tokens
    if context is not None and needed > context:
        raise UserError(
            f"rollout: max_prompt_tokens + max_response_tokens must be <= {context}, the positions that "
            f"{recipe.model.path} has, got {needed}"
        )


def _problems(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, say: Say) -> tuple[list[Problem], list[Problem]]:
    """(training, held-out) problems: no question in both. What goes is counted."""

    def usable(source: Source, role: Role) -> list[Problem]:
        return usable_problems(
            source,
            role,
            seed=recipe.run.seed,
            tokenizer=tokenizer,
            prompting=recipe.data,
            max_prompt_tokens=recipe.rollout.max_prompt_tokens,
            grader=recipe.data.grader,
            max_bad_rows=recipe.data.max_bad_rows,
            say=say,
        )

    held_out, train = usable(recipe.data.eval, "eval"), usable(recipe.data.train, "train")
    disjoint = without(train, held_out)
    if len(disjoint) < len(train):
        say(f"data.train: {len(train) - len(disjoint)} problems are also in data.eval; left out of training")
    if not disjoint:
        raise UserError("data.train: at least one problem must remain, got none")
    return disjoint, held_out
