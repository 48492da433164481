"""How much memory a recipe needs at its peak, part by part."""

from dataclasses import dataclass

import torch

from fipo.doctor.recipe.machine import GIB
from fipo.doctor.recipe.outline import Outline
from fipo.models.loading import dtype_of
from fipo.rollout.engine.recorder import TRACED_WEIGHTS, round_up
from fipo.rollout.engine.slot_engine import PREFILL_TOKENS
from fipo.training.passes.logprobs import CHUNK
from fipo.training.recipe import Recipe

FLOAT32 = 4
STATE_BYTES = {"adamw": 8.0, "adamw_8bit": 2.1, "paged_adamw_8bit": 2.1}  # per weight: two moments, with their scales
CHUNK_COPIES = 5  # of a chunk of logits in float32: themselves, one by temperature, a softmax, and two gradients
HEAD_GRADIENTS = 2  # in the model's precision: their sum so far, and a chunk's
CHOICE_BYTES = 16  # per logit: of float32 copies while a token is chosen
SORTING_BYTES = 40  # more, where top-p sorts and adds up in float64
TRACES = 40 * 2**20  # per layer of a small model on a CPU: recorded decode steps of some 20 sizes
CUDA_CONTEXT = GIB  # CUDA itself, its libraries, recorded decode steps


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """Bytes. What stays is there all the time; of the phases of a step the largest comes on top of it."""

    stays: dict[str, float]
    sampling: dict[str, float]
    update: dict[str, float]
    rounding: dict[str, float]  # its measurement, where it is made

    @property
    def phase(self) -> tuple[str, dict[str, float]]:
        """The name and the parts of the phase with the peak."""
        phases = {
            "sampling": self.sampling,
            "the update": self.update,
            "the measurement of rounding": self.rounding,
        }
        name = max(phases, key=lambda name: sum(phases[name].values()))
        return name, phases[name]

    @property
    def peak(self) -> float:
        return sum(self.stays.values()) + sum(self.phase[1].values())


def estimate(
    recipe: Recipe, outline: Outline, device: torch.device, *, eval_problems: int, process: int
) -> MemoryEstimate:
    """What a run takes; `process` is what Python and its libraries take of the memory in question."""
    rollout, width = recipe.rollout, dtype_of(recipe.model.dtype, device).itemsize
    answers = max(rollout.generation_batch * rollout.group_size, eval_problems * recipe.eval.samples)
    slots = min(rollout.decode_batch, answers)
    length = round_up(rollout.max_prompt_tokens + rollout.max_response_tokens, parts=8, least=32)
    own_copy = recipe.objective.kl_coef > 0 and recipe.model.lora is None  # else the adapters are switched off for it
    gradients = {"gradients": float(FLOAT32 * outline.trainable)}
    sampling = _sampling(recipe, outline, slots, width, prompts=max(rollout.generation_batch, eval_problems))
    wide_head = _wide_head(recipe, outline, device, width) | _dequantised(recipe, outline, width)
    # What recorded steps compute with on CUDA has places of its own, also while they are not replayed.
    kept = sampling.pop("choosing tokens") if device.type == "cuda" else 0.0
    return MemoryEstimate(
        stays=_without_nothing(
            {
                "weights": float(outline.weight_bytes),
                "float32 masters": float(FLOAT32 * outline.half_precision),
                f"{recipe.update.optimizer} state": STATE_BYTES[recipe.update.optimizer] * outline.trainable,
                "reference model": float(own_copy * outline.weight_bytes),
                f"key-value cache, {slots} sequences": float(slots * length * outline.cached_per_token * width),
                "recorded decode steps": kept + float(_traced(outline, device) * TRACES * outline.layers),
                "Python and libraries" if device.type == "cpu" else "CUDA": float(process),
            }
        ),
        sampling=_without_nothing(sampling | wide_head),
        update=gradients | _update(recipe, outline, device, width) | _without_nothing(wide_head),
        rounding=gradients | _rounding(recipe, outline, device, width),
    )


def checkpoint_bytes(recipe: Recipe, outline: Outline) -> float:
    """The bytes of one checkpoint: the weights with the optimizer's state beside them."""
    state = STATE_BYTES[recipe.update.optimizer] * outline.trainable
    return outline.saved_bytes + FLOAT32 * outline.half_precision + state


def tokens_at_once(recipe: Recipe) -> int:
    """Tokens of the largest micro-batch: what the recipe allows, or one longest sequence, or a whole mini-batch."""
    rollout, update = recipe.rollout, recipe.update
    longest = rollout.max_prompt_tokens + rollout.max_response_tokens
    mini_batch = -(-rollout.groups // update.mini_batches) * rollout.group_size * longest
    return min(max(update.tokens_per_micro_batch, longest), mini_batch)


def _sampling(recipe: Recipe, outline: Outline, slots: int, width: int, prompts: int) -> dict[str, float]:
    """`prompts`: different ones in one call."""
    rollout = recipe.rollout
    waiting = min(prompts, slots) * rollout.max_prompt_tokens + PREFILL_TOKENS
    held = min(prompts * rollout.max_prompt_tokens, waiting)
    read = min(PREFILL_TOKENS, prompts * rollout.max_prompt_tokens)
    sorts = min(rollout.top_p, recipe.eval.top_p) < 1
    per_logit = width + CHOICE_BYTES + (SORTING_BYTES if sorts else 0)
    return {
        "choosing tokens": float(slots * outline.vocabulary * per_logit),
        "prompts that were read": float(held * width * outline.cached_per_token),
        "reading prompts": float(read * width * (6 * outline.hidden + 3 * outline.feed_forward)),
    }


def _update(recipe: Recipe, outline: Outline, device: torch.device, width: int) -> dict[str, float]:
    tokens = tokens_at_once(recipe)
    activations = tokens * outline.kept_per_token
    if recipe.update.gradient_checkpointing:  # the input of every layer, and one layer's own
        activations = tokens * (outline.layers * outline.hidden * width + outline.kept_per_token / outline.layers)
    working = tokens * width * (2 * outline.hidden + 3 * outline.feed_forward)  # gradients of activations on their way
    head = outline.vocabulary * outline.hidden if outline.trainable == outline.parameters and width < FLOAT32 else 0
    return _without_nothing(
        {
            f"activations of {tokens:,} tokens": activations + working,
            "logits": _logits(tokens, outline, device),
            "gradients of the output layer": float(HEAD_GRADIENTS * head * width),
        }
    )


def _rounding(recipe: Recipe, outline: Outline, device: torch.device, width: int) -> dict[str, float]:
    """A forward pass in float32, with the masters as weights; what is frozen is widened a matrix at a time."""
    if width >= FLOAT32 or not recipe.telemetry.noise_every or recipe.update.mini_batches == 1:
        return {}
    tokens = tokens_at_once(recipe)
    frozen = FLOAT32 * outline.vocabulary * outline.hidden if recipe.model.lora else 0
    return _without_nothing(
        {
            f"{tokens:,} tokens in float32": float(FLOAT32 * tokens * (2 * outline.hidden + 3 * outline.feed_forward)),
            "logits": _logits(tokens, outline, device),
            "a frozen matrix in float32": float(frozen),
        }
    )


def _logits(tokens: int, outline: Outline, device: torch.device) -> float:
    chunk = min(tokens * outline.vocabulary, max(CHUNK[device.type], outline.vocabulary))
    return float(CHUNK_COPIES * FLOAT32 * chunk)


def _wide_head(recipe: Recipe, outline: Outline, device: torch.device, width: int) -> dict[str, float]:
    """The copy of the output layer that a CPU makes for float32 logits; CUDA writes them without one."""
    if device.type == "cuda" or width >= FLOAT32 or recipe.model.head_dtype == "model":
        return {}
    return {"output layer in float32": float(FLOAT32 * outline.vocabulary * outline.hidden)}


def _dequantised(recipe: Recipe, outline: Outline, width: int) -> dict[str, float]:
    """The largest matrix of a base in 4 bits, made anew for each product; while it is, there may be the one before."""
    if recipe.model.lora is None or recipe.model.lora.base != "4bit":
        return {}
    return {"dequantised weights": float(2 * width * outline.hidden * outline.feed_forward)}


def _traced(outline: Outline, device: torch.device) -> bool:
    return device.type == "cpu" and outline.parameters <= TRACED_WEIGHTS


def _without_nothing(parts: dict[str, float]) -> dict[str, float]:
    return {name: size for name, size in parts.items() if size}
