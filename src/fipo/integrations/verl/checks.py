"""Which engines give the loss whole sequences with the model's own attention. The others are refused.

The future KL of a token sums over what follows it in its row, so a row must be a whole response. FSDP's Ulysses and
Megatron's context parallelism gather the log-probabilities before the loss (Megatron without the gradient of other
ranks' tokens, which is right because the influence weights are constants); TorchTitan's and AutoModel's do not.
"""

from typing import Any

from fipo.integrations.verl.compat import VerlMismatch

GATHERING = ("fsdp", "fsdp2", "megatron", "veomni")
SHARDING = {"torchtitan": "context_parallel_size", "automodel": "cp_size"}
ULYSSES = ("ulysses_sequence_parallel_size", "ulysses_parallel_size")
DYNAMIC = "dynamic_context_parallel"  # Megatron's
FLASH = "flash_attention"
STOCK_ATTENTION = "flash_attention_2"  # verl's own default


def check_engine(actor: Any) -> None:
    """Raise VerlMismatch if verl's ActorConfig names an engine or a parallelism under which FIPO would be wrong."""
    strategy, engine = actor.strategy, actor.engine
    if strategy in SHARDING:
        key = SHARDING[strategy]
        if engine.get(key, 1) > 1:
            raise VerlMismatch(
                f"{strategy}.{key} must be 1: this engine does not gather a sequence before the loss, "
                f"so its future KL would stop at each shard; got {engine.get(key)}"
            )
    elif strategy not in GATHERING:
        known = ", ".join([*GATHERING, *SHARDING])
        raise VerlMismatch(f"actor.strategy must be one of {known} for future_kl, got {strategy!r}")
    if engine.get(DYNAMIC, False):
        raise VerlMismatch(
            f"{strategy}.{DYNAMIC} must be off: it makes all ranks one of data parallelism, so the metrics, the kept "
            "tokens and the credit would be those of one rank's sequences; got it on"
        )
    size = max(engine.get(key, 1) or 1 for key in ULYSSES)
    attention = attention_of(actor)
    if size > 1 and FLASH not in attention:
        raise VerlMismatch(
            f"sequence parallelism of {size} needs flash attention, got {attention!r}: verl's Ulysses patches flash "
            "attention alone, and any other kernel would silently attend within each shard"
        )


def attention_of(actor: Any) -> str:
    """The attention kernel of the actor's model: as loaded, or as the configuration asks for it."""
    own = actor.engine.get("attn_implementation", None)  # VeOmni's and AutoModel's
    if own is not None:
        return str(own)
    model = actor.model_config
    loaded = getattr(model.get("hf_config", None), "_attn_implementation", None)
    override = model.get("override_config", None) or {}
    return str(loaded or override.get("attn_implementation", STOCK_ATTENTION))
