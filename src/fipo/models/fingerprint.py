"""What decides a model's answers, as values that are equal for equal models, wherever and in what files they lie."""

import hashlib
import json
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


def config_values(model: PreTrainedModel) -> dict[str, Any]:
    config = model.config.to_dict()
    return {key: value for key, value in config.items() if key not in ("_name_or_path", "transformers_version")}


def words(tokenizer: PreTrainedTokenizerBase) -> Any:
    """How a tokenizer makes tokens of texts."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return sorted(tokenizer.get_vocab().items()) if backend is None else backend.to_str()


def sha256_of(values: Any) -> str:
    return hashlib.sha256(as_json(values)).hexdigest()


def as_json(values: Any) -> bytes:
    return json.dumps(values, sort_keys=True, default=str).encode()


def weights_into(sha256: "hashlib._Hash", model: PreTrainedModel) -> None:
    for name, tensor in sorted(model.state_dict().items()):
        sha256.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha256.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)


def fingerprint_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stops: list[int]) -> dict[str, str]:
    """SHA-256 of each part by itself, so that what differs can be named; the commit of a hub model."""
    weights = hashlib.sha256()
    weights_into(weights, model)
    commit = getattr(model.config, "_commit_hash", None)
    return {
        "tokenizer": sha256_of([words(tokenizer), tokenizer.chat_template]),
        "stop_tokens": sha256_of(stops),
        "config": sha256_of(config_values(model)),
        "weights": weights.hexdigest(),
        **({"revision": commit} if commit else {}),
    }
