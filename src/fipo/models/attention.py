"""What kind of attention a model has."""

from transformers import PreTrainedModel


def special_attention(model: PreTrainedModel) -> str | None:
    """Why attention functions of ours, which know plain causal attention, cannot serve a model; None if they can."""
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
