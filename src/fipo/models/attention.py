"""Whether attention functions of ours can stand in for a model's own."""

from collections.abc import Callable

import torch
from transformers import PreTrainedModel

Trial = Callable[[PreTrainedModel], tuple[float, float]]
FLOOR = {torch.float64: 1e-6, torch.float32: 1e-3}  # of a mean error in nats; of half precisions 0.1


def obstacle(model: PreTrainedModel, trial: Trial) -> str | None:
    """Why plain causal attention of ours cannot serve a model, by its kind or by a trial; None if it can.

    trial: (mean error of logits or log-probs, largest logit) with our attention beside the model's own. Rounding
    alone makes an error of some units in the last place of the largest logit.
    """
    if reason := special_attention(model):
        return reason
    try:
        error, largest = trial(model)
    except Exception as failure:
        return f"a trial failed with {type(failure).__name__}: {failure!s:.100}"
    allowed = max(FLOOR.get(model.dtype, 0.1), 4 * torch.finfo(model.dtype).eps * largest)
    return None if error < allowed else f"in a trial it was off by {error:.2g}, and rounding explains {allowed:.2g}"


def special_attention(model: PreTrainedModel) -> str | None:
    """What kind of attention a model has, if it is not plain causal attention behind transformers' interface."""
    config = model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"]) - {"full_attention"}
    if not model._supports_attention_backend:
        return "its attention is not behind transformers' interface"
    if not hasattr(config, "layer_types") and getattr(config, "sliding_window", None):
        return "its attention has a sliding window"
    if kinds:
        return f"it has layers of {', '.join(sorted(kinds))}"
    if getattr(config, "attn_logit_softcapping", None):
        return "it caps the logits of its attention"
    return None
