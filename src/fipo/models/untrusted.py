"""What a model's files must not ask for: to run their code, or to be unpickled, which may run code as well."""

import json
from pathlib import Path
from typing import Any

from transformers import CONFIG_MAPPING
from transformers.utils import (
    SAFE_WEIGHTS_INDEX_NAME,
    SAFE_WEIGHTS_NAME,
    cached_file,
    is_flash_attn_2_available,
    is_flash_attn_3_available,
)

from fipo.errors import UserError

BUILT_IN = {"eager", "sdpa", "flex_attention", "grouped_mm", "batched_mm"}  # ways to compute attention and experts
INSTALLED = {
    "flash_attention_2": is_flash_attn_2_available,
    "flash_attention_3": is_flash_attn_3_available,
}
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
NO_PICKLES = (
    "fipo reads only safetensors, because loading a pickle can run code: where you trust it, convert it once with "
    "transformers: AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW)"
)


def check(name: str) -> None:
    """`name` is a folder or a hub model, of which no more than the small JSON files are fetched.

    Raises UserError if it wants code to be run that is not installed (its own, or a kernel of the hub), or has weights
    that are not safetensors.
    """
    config = _json(name, "config.json")
    _check_code(name, "config.json", config)
    _check_kernels(name, config)
    _check_code(name, "tokenizer_config.json", _json(name, "tokenizer_config.json"))
    if _json(name, "adapter_config.json"):  # transformers would put them on the model if peft is there
        raise UserError(
            f"model.path: {name} holds adapters of peft: merge them into their model (merge_and_unload) and save that"
        )
    weights = config.get("transformers_weights")  # a file name that transformers prefers to its own
    shards = [weights] if isinstance(weights, str) else []
    index = next((shard for shard in shards if shard.endswith(".index.json")), SAFE_WEIGHTS_INDEX_NAME)
    weight_map = _json(name, index).get("weight_map")
    shards += weight_map.values() if isinstance(weight_map, dict) else []
    for shard in shards:
        if not str(shard).endswith((".safetensors", ".safetensors.index.json")):
            raise UserError(f"model.path: {name}: weights must be safetensors, got {str(shard)!r:.80}")
    if Path(name).is_dir():
        _check_folder(Path(name))


def _check_code(name: str, file: str, content: dict[str, Any]) -> None:
    wanted = content.get("auto_map")
    if not wanted:
        return
    classes = list(wanted.values()) if isinstance(wanted, dict) else [wanted]
    builtin = content.get("model_type")
    if file == "tokenizer_config.json":
        remedy = 'if it has a tokenizer.json, remove "auto_map" from a copy to use that'
    elif isinstance(builtin, str) and builtin in CONFIG_MAPPING:
        remedy = f'remove "auto_map" from a copy to use the {builtin} that is built into transformers'
    else:
        remedy = "convert the model to an architecture that is built into transformers"
    raise UserError(
        f"model.path: {name}: {file} asks to run the model's own code ({str(classes[0])!r:.60}), and fipo never does "
        f"(trust_remote_code is off): {remedy}"
    )


def _check_kernels(name: str, config: dict[str, Any]) -> None:
    """transformers would fetch what it does not have from the hub and run it."""
    for key, value in config.items():
        if isinstance(value, dict):
            _check_kernels(name, value)
        if not key.removesuffix("_internal").endswith(("attn_implementation", "experts_implementation")):
            continue
        for wanted in value.values() if isinstance(value, dict) else [value]:
            if wanted in (None, *BUILT_IN) or INSTALLED.get(str(wanted), bool)():
                continue
            raise UserError(
                f"model.path: {name}: config.json asks for {key} {str(wanted)!r:.60}, which is not installed, and fipo "
                "fetches no kernels: remove it from a copy to use what is built into transformers"
            )


def _check_folder(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
    if pickles:
        raise UserError(f"model.path: {folder} has its weights in {pickles[0]} alone; {NO_PICKLES}")
    raise UserError(f"model.path: {folder} holds no weights: no {SAFE_WEIGHTS_NAME}")


def _json(name: str, file: str) -> dict[str, Any]:
    """The content of a JSON file of the model, empty if there is no such file."""
    path = cached_file(
        name,
        file,
        _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False,
        _raise_exceptions_for_gated_repo=False,
    )
    if path is None:
        return {}
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"model.path: {name}: {file} is not readable as JSON: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"model.path: {name}: {file} must be an object, got {type(content).__name__}")
    return content
