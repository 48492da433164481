"""Do prompt and response fit what the rollout's engine takes the model's length to be?

verl takes it from config.json with `model.override_config` on top; vLLM reads config.json by itself, with its own
`hf_overrides` on top, and refuses a longer `max_model_len`, after the GPUs were reserved. A model that is too short
cuts responses off without a word.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

POSITIONS = "max_position_embeddings"
MODEL, ROLLOUT = "actor_rollout_ref.model", "actor_rollout_ref.rollout"
OVERRIDE = f"{MODEL}.override_config.{POSITIONS}"
TOLD = f"{ROLLOUT}.engine_kwargs.vllm.hf_overrides.{POSITIONS}"


def check_lengths(value: Callable[[str], Any], model: str) -> None:
    """Raise ValueError, one line, for lengths that do not fit.

    value: verl's setting of a dotted key, None where there is none. model: a folder, looked into where it is here.
    """
    own = positions_of(Path(model))
    override, told = value(OVERRIDE), value(TOLD)
    vllm = value(f"{ROLLOUT}.name") == "vllm"
    if vllm and override and told != override:
        raise ValueError(f"{TOLD} must be {override}, as {OVERRIDE} is: vLLM reads config.json itself; got {told}")
    known = [size for size in (override, own) if isinstance(size, int)]  # the first one counts
    longest = value(f"{ROLLOUT}.max_model_len")
    if isinstance(longest, int) and known and longest > known[0]:
        raise ValueError(f"{ROLLOUT}.max_model_len must be at most the model's {POSITIONS} {known[0]}, got {longest}")
    limit = longest or (known[0] if known else None)
    prompt, response = value("data.max_prompt_length"), value("data.max_response_length")
    if all(isinstance(size, int) for size in (limit, prompt, response)) and prompt + response > limit:
        keys = f"{OVERRIDE} and {TOLD}" if vllm else OVERRIDE
        raise ValueError(
            f"data.max_prompt_length + max_response_length must be at most {limit}, the model's {POSITIONS} or "
            f"rollout.max_model_len, got {prompt} + {response}: set {keys}"
        )


def positions_of(folder: Path) -> int | None:
    """`max_position_embeddings` of the config.json of a model folder; None where it is not here or does not say."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    tables = [config, config.get("text_config")] if isinstance(config, dict) else []
    found = [table[POSITIONS] for table in tables if isinstance(table, dict) and POSITIONS in table]
    return found[0] if found and isinstance(found[0], int) else None
