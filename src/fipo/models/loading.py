"""Any causal language model that transformers loads, by folder or hub name, and the embedded one."""

import logging
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils.logging import disable_progress_bar

from fipo.errors import UserError

EMBEDDED = "embedded"
EMBEDDED_FOLDER = Path(__file__).parent / "tiny"
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def load(path: str, device: torch.device | str = "cpu") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """(model, tokenizer), the model in float32 and in evaluation mode: dropout would fake a change of policy.

    `path` is "embedded", a local folder, or the name of a model on the hub; nothing is downloaded unless it
    is such a name. Raises UserError if it cannot be loaded.
    """
    name = str(EMBEDDED_FOLDER) if path == EMBEDDED else path
    if not Path(name).is_dir() and not HUB_NAME.fullmatch(path):
        raise UserError(f'model.path must be "embedded", an existing folder, or a hub name OWNER/MODEL, got {path!r}')
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise UserError(f"model.path: {path} holds no config.json: not a model in transformers' format")
    disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    try:
        tokenizer = _tokenizer_class(name).from_pretrained(name)
        loaded: Any = AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32, output_loading_info=True)
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, SafetensorError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"model.path: cannot load {path!r}: {reason}") from None
    model, report = loaded
    if report["missing_keys"]:
        absent = sorted(report["missing_keys"])
        raise UserError(f"model.path: {path} lacks {len(absent)} of its model's weights, such as {absent[0]}")
    return model.eval().to(torch.device(device)), tokenizer


def _tokenizer_class(name: str) -> Any:
    """What reads the tokenizer: the class it was saved with if that is the general one.

    AutoTokenizer would take the one that goes with the model's architecture, whatever stands in the folder.
    """
    saved = get_tokenizer_config(name).get("tokenizer_class")
    return PreTrainedTokenizerFast if saved in ("TokenizersBackend", "PreTrainedTokenizerFast") else AutoTokenizer


def stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a response: what the model's generation config and its tokenizer name."""
    configured = model.generation_config.eos_token_id if model.generation_config else None
    listed = configured if isinstance(configured, list) else [configured]
    return sorted({token for token in [*listed, tokenizer.eos_token_id] if token is not None})
