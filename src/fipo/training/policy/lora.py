"""Low-rank adapters on frozen weights (LoRA, arXiv 2106.09685) by peft: W x becomes W x + (alpha / rank) B (A x).

The model keeps its class, so nothing but the checkpoint knows of its adapters. Sampling runs the adapted model as well:
weights with the adapters merged into them would round otherwise than what is trained.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from fipo.errors import MissingExtra, UserError
from fipo.extras import import_bitsandbytes, install_hint
from fipo.models.four_bit import FourBitLinear
from fipo.training.policy.table import LoraTable

if TYPE_CHECKING:
    from peft.tuners.lora import LoraLayer

ADAPTER = "default"  # what peft calls the only one
WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"  # the files that peft looks for
PREFIX = "base_model.model."  # of a weight's name in them


def adapt(model: PreTrainedModel, table: LoraTable) -> None:
    """Freeze a model's weights and give it adapters, A random and B zero: it computes what it did before.

    Raises UserError if peft is missing, or for a target that is not the name of a linear layer.
    """
    try:
        with suppress(ImportError):
            import_bitsandbytes()  # peft would, if it is there
        from peft import LoraConfig, inject_adapter_in_model
    except ImportError:
        raise MissingExtra("[model.lora]", install_hint("lora")) from None
    possible = _linear_layers(model)
    targets = possible if table.targets == "all-linear" else list(table.targets)
    unknown = [target for target in targets if target not in possible]
    if unknown or not targets:
        raise UserError(
            f"model.lora.targets must be some of {possible}, the linear layers of {type(model).__name__} without its "
            f"head, got {unknown or targets}"
        )
    alpha: Any = table.alpha  # peft multiplies by it, though it wants a whole number
    config = LoraConfig(
        task_type="CAUSAL_LM",
        base_model_name_or_path=model.name_or_path,
        r=table.rank,
        lora_alpha=alpha,
        lora_dropout=0.0,  # another policy in each forward pass
        target_modules=targets,
    )
    inject_adapter_in_model(config, model, adapter_name=ADAPTER)
    model.eval()


def is_adapted(model: PreTrainedModel) -> bool:
    return ADAPTER in getattr(model, "peft_config", {})


@contextmanager
def without_adapters(model: PreTrainedModel) -> Iterator[None]:
    """Inside, an adapted model is the one that it was made from, bit for bit.

    For forward passes without gradients. Not for the slot engine, whose recorded steps keep the adapters.
    """
    layers = _layers(model).values()
    try:
        for layer in layers:
            layer.enable_adapters(False)
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


@torch.no_grad()
def merged_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """The weights of a model without adapters that computes what an adapted one does, but for rounding.

    W + (alpha / rank) B A in float32 at least, rounded once. Adapted weights are on the CPU, for a second model may
    not fit beside the first.
    """
    layers, adapters = _layers(model), _adapters(model)
    merged = {}
    for name, tensor in _unpacked(model):
        owner, _, field = name.rpartition(".base_layer.")
        if owner not in layers:
            if name.replace(f".{ADAPTER}.", ".") not in adapters:
                merged[name] = tensor
            continue
        merged[f"{owner}.{field}"] = tensor if field != "weight" else _merged(layers[owner], tensor).cpu()
    return merged


def save_adapters(model: PreTrainedModel, folder: Path) -> None:
    """The adapters in peft's format: `PeftModel.from_pretrained(base, folder)` loads them."""
    folder.mkdir()
    adapters = {f"{PREFIX}{name}": weight.detach().contiguous() for name, weight in _adapters(model).items()}
    save_file(adapters, folder / WEIGHTS, metadata={"format": "pt"})
    configs: Any = model.peft_config
    config = configs[ADAPTER].to_dict()
    (folder / CONFIG).write_text(json.dumps(config, indent=1, sort_keys=True, default=sorted))  # peft has sets in it


@torch.no_grad()
def load_adapters(model: PreTrainedModel, folder: Path, merged: dict[str, Tensor]) -> None:
    """What `save_adapters` wrote, into a model of the same base.

    merged: the weights that were saved beside them. Raises UserError if this base with these adapters is not close
    to them: then it is another base.
    """
    saved = {name.removeprefix(PREFIX): weight for name, weight in load_file(folder / WEIGHTS).items()}
    adapters = _adapters(model)
    if saved.keys() != adapters.keys():
        raise UserError(f"{folder}: the adapters do not fit the model: {sorted(saved.keys() ^ adapters.keys())[:3]}")
    for name, weight in adapters.items():
        weight.copy_(saved[name])
    for name, weight in merged_weights(model).items():
        # Rounding of the precision that they were saved in, and of another device's products.
        if not torch.allclose(weight.cpu().float(), merged[name].float(), rtol=2e-2, atol=1e-4):
            raise UserError(f"{folder}: {name} of model.path is not the one that these adapters were trained on")


def _linear_layers(model: PreTrainedModel) -> list[str]:
    """The last parts of their names, the output layer left out: weights may be tied to it."""
    head = model.get_output_embeddings()
    linear = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head]
    return sorted({name.rpartition(".")[2] for name in linear})


def _layers(model: PreTrainedModel) -> "dict[str, LoraLayer]":
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def _adapters(model: PreTrainedModel) -> dict[str, Tensor]:
    """A and B of every adapted layer, by the names that peft saves them under."""
    return {
        f"{name}.{matrix}.weight": getattr(layer, matrix)[ADAPTER].get_parameter("weight")
        for name, layer in _layers(model).items()
        for matrix in ("lora_A", "lora_B")
    }


def _unpacked(model: PreTrainedModel) -> Iterator[tuple[str, Tensor]]:
    """A model's state, the weights of layers in 4 bits as they compute, one at a time and on the CPU."""
    packed = {name: module for name, module in model.named_modules() if isinstance(module, FourBitLinear)}
    for name, tensor in model.state_dict().items():
        owner, _, field = name.rpartition(".")
        if owner not in packed or field == "bias":
            yield name, tensor
        elif field == "codes":
            yield f"{owner}.weight", packed[owner].weight.cpu()


def _merged(layer: "LoraLayer", weight: Tensor) -> Tensor:
    wide = torch.promote_types(weight.dtype, torch.float32)
    a, b = (matrix[ADAPTER].get_parameter("weight").to(wide) for matrix in (layer.lora_A, layer.lora_B))
    return (weight.to(a.device, wide) + layer.scaling[ADAPTER] * (b @ a)).to(weight.dtype)
