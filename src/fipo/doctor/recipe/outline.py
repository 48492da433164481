"""A model's sizes without its weights: it is built on the meta device, where tensors have shapes and no memory."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

from fipo.errors import UserError
from fipo.models.four_bit import quantise
from fipo.models.limits import positions_of
from fipo.models.loading import check_trainable, config_of
from fipo.training.policy.lora import adapt
from fipo.training.policy.table import LoraTable

ATTENTION = "fipo_outline"
PROBE_TOKENS = 256


@dataclass(frozen=True, kw_only=True)
class Outline:
    architecture: str
    parameters: int  # weights, adapters included
    weight_bytes: int  # of all of them
    saved_bytes: int  # of those of a checkpoint, which has none in 4 bits
    trainable: int  # all of them, or those of the adapters
    half_precision: int  # trainable ones with a float32 master beside them
    layers: int
    hidden: int
    feed_forward: int  # the width inside a layer, some times `hidden`
    vocabulary: int
    cached_per_token: int  # elements: keys and values that one token leaves in the cache
    kept_per_token: float  # bytes: what the backward pass needs of one token, in all layers
    positions: int | None  # that the model knows; None = no limit


@lru_cache(maxsize=8)
def outline_of(path: str, dtype: torch.dtype, lora: LoraTable | None) -> Outline:
    """The outline of the model at `path` in the precision `dtype`, with its adapters if there shall be some.

    Raises UserError if it has no config that transformers knows, or cannot have these adapters.
    """
    check_trainable(path)
    config = config_of(path)
    model = _without_weights(config, dtype, path)
    text = config.get_text_config()
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    parameters = sum(p.numel() for p in model.parameters())
    if lora is not None:
        if lora.base == "4bit":
            quantise(model, torch.device("meta"))
        adapt(model, lora)
    trainable = [p for p in model.parameters() if p.requires_grad]
    parameters += sum(p.numel() for p in trainable) if lora is not None else 0
    return Outline(
        architecture=type(model).__name__,
        parameters=parameters,
        weight_bytes=sum(p.numel() * p.element_size() for p in model.parameters()),
        saved_bytes=parameters * dtype.itemsize,
        trainable=sum(p.numel() for p in trainable),
        half_precision=sum(p.numel() for p in trainable if p.element_size() < 4),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        feed_forward=getattr(text, "intermediate_size", None) or 4 * text.hidden_size,
        vocabulary=text.vocab_size,
        cached_per_token=2 * text.num_hidden_layers * heads * size,
        kept_per_token=kept_per_token(model),
        positions=positions_of(config),
    )


def _without_weights(config: PreTrainedConfig, dtype: torch.dtype, path: str) -> PreTrainedModel:
    try:
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=dtype)
    except (ValueError, KeyError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"model.path: {path!r} must be a causal language model: {reason:.200}") from None
    return model.eval()


def kept_per_token(model: PreTrainedModel) -> float:
    """Bytes that autograd keeps of one token in a model on the meta device, its own weights left out.

    Attention counts as flash attention does it: queries, keys, values, the result, and one number per head. A model
    that looks at values on its way (most mixtures of experts) cannot be run without any: then by rule of thumb.
    """
    own = {tensor.untyped_storage()._cdata for tensor in [*model.parameters(), *model.buffers()]}
    kept: dict[int, torch.UntypedStorage] = {}  # held, so that no address comes twice

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage
        return tensor

    before = model.config._attn_implementation
    try:
        model.set_attn_implementation(ATTENTION)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            model.get_decoder()(
                input_ids=torch.zeros(1, PROBE_TOKENS, dtype=torch.long, device="meta"),
                attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device="meta"),  # given, so none is made
                use_cache=False,
            )
    except Exception:  # whatever a model's code meets on the meta device
        text = model.config.get_text_config()
        width = 9 * text.hidden_size + 4 * (getattr(text, "intermediate_size", None) or 4 * text.hidden_size)
        return 1.1 * text.num_hidden_layers * width * model.dtype.itemsize
    finally:
        model.set_attn_implementation(before)
    return sum(storage.nbytes() for storage in kept.values()) / PROBE_TOKENS


class _Flash(torch.autograd.Function):
    """Attention that computes nothing, and keeps for the backward pass what flash attention would."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        mixed = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, mixed, query.new_empty(query.shape[:3], dtype=torch.float32))
        return mixed


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **_: Any
) -> tuple[Tensor, None]:
    mixed: Tensor = _Flash.apply(query, key, value)
    return mixed.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, _attention)
AttentionMaskInterface.register(ATTENTION, lambda *_, **__: None)
