"""A model in this process that answers problems."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fipo.data.problem import Problem
from fipo.data.sources import sources_of
from fipo.errors import UserError
from fipo.evaluation.answers import Answer, Asked, sample_seed
from fipo.evaluation.config import EvalRecipe, Model
from fipo.grading.workers.pool import GraderPool
from fipo.models.determinism import deterministic_operations
from fipo.models.fingerprint import as_json, config_values, weights_into, words
from fipo.models.limits import positions_of
from fipo.models.loading import device_of, rows_of, stop_tokens
from fipo.models.precision import load_as
from fipo.models.rotary import fixed_rotary
from fipo.rollout.engine.select import make_sampler
from fipo.rollout.problems import PromptLimit, problem_sets
from fipo.rollout.prompts import encode, rendered, stopping_at
from fipo.rollout.texts import texts_of
from fipo.telemetry.run_directory import RunDirectory


class LocalModel:
    """An Answerer: the model of `[model]`, decoded by the engine that training samples with."""

    def __init__(self, recipe: EvalRecipe, table: Model, say: Callable[[str], None]) -> None:
        """Raises UserError if the model cannot be loaded, or its positions do not hold what the recipe asks for."""
        deterministic_operations()
        device = device_of(table.device, key="model.device")
        self.recipe = recipe
        _note_other_format(recipe, table.path, say)
        model, self.tokenizer = load_as(table, device, model_folder(table.path))
        stops = stop_tokens(model, self.tokenizer)
        stops += stopping_at(recipe.sampling.stop, self.tokenizer, key="sampling.stop")
        if not stops:
            say(f"note: {table.path} names no stop token, so every response will be truncated")
        self.stop_tokens = stops
        self.max_prompt_tokens = _longest_prompt(recipe, table.path, model)
        self.rows = rows_of(model)
        self.chunk = table.decode_batch
        asked = recipe.sampling.max_prompt_tokens
        self.sampler = make_sampler(
            model,
            stop_tokens=stops,
            slots=table.decode_batch,
            longest=asked and asked + recipe.sampling.max_response_tokens,
            params=recipe.sampling.params(1),
            say=say,
        )
        self.identity = {
            "path": table.path,
            "sha256": fingerprint(model, self.tokenizer, stops),
            "dtype": str(model.dtype).removeprefix("torch."),
        }

    def problems(self, graders: GraderPool, say: Callable[[str], None]) -> dict[str, list[Problem]]:
        data, sampling = self.recipe.data, self.recipe.sampling
        limit = PromptLimit(
            tokenizer=self.tokenizer,
            prompting=data,
            max_tokens=self.max_prompt_tokens,
            rows=self.rows,
            key="sampling.max_prompt_tokens",
        )
        return problem_sets(
            sources_of(data.eval, "data.eval"), "eval", data, graders=graders, seed=sampling.seed, limit=limit, say=say
        )

    def prompt(self, problem: Problem) -> str | None:
        """What its chat template makes of it; a raw prompt is the problem's own."""
        data = self.recipe.data
        return rendered(problem, self.tokenizer, data) if data.prompt_format == "chat" else None

    def answer(self, asked: Sequence[Asked], beat: Callable[[int], None]) -> list[Answer]:
        """All together. The random numbers of an answer are its own, whatever is asked beside it."""
        sampling = self.recipe.sampling
        params = sampling.params(sampling.max_response_tokens)
        seeds = [sample_seed(sampling, each) for each in asked]
        prompts = [encode(problem, self.tokenizer, self.recipe.data) for problem, _ in asked]
        responses = self.sampler.sample(prompts, params, seeds)
        beat(sum(len(response.tokens) for response in responses))
        texts = texts_of(responses, self.tokenizer, self.stop_tokens)
        return [
            Answer(text=text, tokens=len(response.tokens), truncated=response.truncated, seed=seed)
            for response, text, seed in zip(responses, texts, seeds, strict=True)
        ]


def model_folder(path: str) -> str:
    """What is loaded for `model.path`: of a run directory the newest checkpoint. Raises UserError if it has none."""
    run = RunDirectory(Path(path))
    if not run.config.is_file():
        return path
    checkpoint = run.newest_checkpoint()
    if checkpoint is None:
        raise UserError(f"{path}: no checkpoint has been written yet")
    return str(checkpoint)


def _note_other_format(recipe: EvalRecipe, path: str, say: Callable[[str], None]) -> None:
    run, ours = RunDirectory(Path(path)), recipe.data.prompt_format
    trained = run.read_config().get("data", {}).get("prompt_format", ours) if run.config.is_file() else ours
    if trained != ours:
        say(f'note: data.prompt_format is "{ours}", and {path} was trained with "{trained}"')


def fingerprint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stops: Sequence[int]) -> str:
    """SHA-256 of what decides the answers: weights as they are computed with, configuration, tokenizer, stop tokens.

    However the files are called and split, and wherever they are, the same model has the same one.
    """
    decisive = [config_values(model), words(tokenizer), tokenizer.chat_template, stops, *fixed_rotary(model)]
    sha256 = hashlib.sha256(as_json(decisive))
    weights_into(sha256, model)
    return sha256.hexdigest()


def _longest_prompt(recipe: EvalRecipe, path: str, model: PreTrainedModel) -> int | None:
    """Tokens; None for a model without a fixed number of positions."""
    context = positions_of(model.config)
    asked, response = recipe.sampling.max_prompt_tokens, recipe.sampling.max_response_tokens
    if context is None:
        return asked
    if (asked or 1) + response > context:
        raise UserError(
            f"sampling: max_prompt_tokens + max_response_tokens must be <= {context}, the positions that {path} has, "
            f"got {asked or 1} + {response}"
        )
    return asked or context - response
