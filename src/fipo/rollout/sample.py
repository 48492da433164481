"""A few answers of a model to prompts of the user: what `fipo sample` prints."""

from collections.abc import Sequence
from pathlib import Path

from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.models.limits import positions_of
from fipo.models.loading import load, rows_of, stop_tokens
from fipo.rollout.engine.select import make_sampler
from fipo.rollout.problems import PromptLimit
from fipo.rollout.prompts import Prompting, encode, stopping_at
from fipo.rollout.sampler import SamplingParams
from fipo.rollout.texts import texts_of
from fipo.telemetry.run_directory import RunDirectory


def sample_texts(
    model_path: str, prompts: Sequence[str], *, samples: int, temperature: float, max_tokens: int, seed: int
) -> list[list[str]]:
    """`samples` responses to each prompt. A run directory stands for its newest checkpoint, prompt format and stops."""
    for prompt in prompts:
        if any("\ud800" <= character <= "\udfff" for character in prompt):  # what is no UTF-8 on a command line
            raise UserError(f"a prompt must be text in UTF-8, got {prompt!r:.80}")
    prompting, stop = Prompting(), []
    run = RunDirectory(Path(model_path))
    if run.config.is_file():
        checkpoint = run.newest_checkpoint()
        if checkpoint is None:
            raise UserError(f"{model_path}: no checkpoint has been written yet")
        model_path = str(checkpoint)
        config = run.read_config()
        known = {key: config["data"][key] for key in Prompting.model_fields if key in config["data"]}
        prompting, stop = Prompting.model_validate(known), config.get("rollout", {}).get("stop", [])
    model, tokenizer = load(model_path)
    stops = stop_tokens(model, tokenizer) + stopping_at(stop, tokenizer, key="rollout.stop")
    problems = [Problem(id=prompt, prompt=prompt, answer="", source="command line") for prompt in prompts]
    limit = PromptLimit(tokenizer=tokenizer, prompting=prompting, max_tokens=None, rows=rows_of(model))
    for problem in problems:
        limit.check(problem)
    encoded = [encode(problem, tokenizer, prompting) for problem in problems for _ in range(samples)]
    context = positions_of(model.config)
    needed = max(map(len, encoded)) + max_tokens
    if context is not None and needed > context:
        raise UserError(f"prompt and --max-tokens must fit the model's {context} positions, got {needed}")
    params = SamplingParams(temperature=temperature, max_tokens=max_tokens)
    sampler = make_sampler(model, stop_tokens=stops, slots=64, longest=needed, params=params)
    responses = sampler.sample(encoded, params, seed)
    texts = texts_of(responses, tokenizer, stops)
    return [texts[i * samples : (i + 1) * samples] for i in range(len(prompts))]
