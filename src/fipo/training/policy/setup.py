"""The policy of a recipe: its model, its tokenizer, and the tokens at which a response ends."""

from collections.abc import Callable
from dataclasses import dataclass

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fipo.errors import UserError
from fipo.models.fingerprint import fingerprint_of
from fipo.models.limits import positions_of
from fipo.models.loading import check_trainable, device_of, stop_tokens
from fipo.models.precision import load_as
from fipo.rollout.prompts import stopping_at
from fipo.rollout.table import RolloutTable
from fipo.training.passes.recompute import check_recomputing
from fipo.training.policy.lora import adapt
from fipo.training.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Policy:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    stop_tokens: list[int]
    fingerprint: dict[str, str]  # of what the recipe names


def load_policy(recipe: Recipe, say: Callable[[str], None]) -> Policy:
    """Raises UserError for a model that cannot be had, or that cannot do what the recipe asks of it."""
    device = device_of(recipe.run.device, key="run.device")
    check_trainable(recipe.model.path)
    lora = recipe.model.lora
    model, tokenizer = load_as(recipe.model, device, four_bit=lora is not None and lora.base == "4bit")
    stops = stop_tokens(model, tokenizer) + stopping_at(recipe.rollout.stop, tokenizer, key="rollout.stop")
    fingerprint = fingerprint_of(model, tokenizer, stops)
    if lora is not None:
        adapt(model, lora)
    _check_context(recipe.rollout, recipe.model.path, positions_of(model.config))
    if recipe.update.gradient_checkpointing:
        check_recomputing(model)
    if not stops:
        say(f"note: {recipe.model.path} names no stop token, so every response will be truncated")
    return Policy(model=model, tokenizer=tokenizer, stop_tokens=stops, fingerprint=fingerprint)


def _check_context(rollout: RolloutTable, path: str, context: int | None) -> None:
    if context is not None and rollout.longest > context:
        raise UserError(
            f"rollout: max_prompt_tokens + max_response_tokens must be <= {context}, the positions that "
            f"{path} has, got {rollout.longest}"
        )
