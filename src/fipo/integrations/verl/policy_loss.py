"""The policy loss that verl calls by the name `future_kl`: names translated, the math in `fipo.objective`."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor

from fipo.integrations.verl.checks import check_engine
from fipo.integrations.verl.compat import VerlMismatch, check_interface
from fipo.integrations.verl.knobs import LOSS_NAME, POLICY_LOSS, TARGET, Knobs
from fipo.objective import AGGREGATIONS, Aggregation, LossInputs, LossOutput, policy_loss


@dataclass(kw_only=True)
class Call:
    """What `loss.py` and the policy loss, which verl calls in between, tell each other."""

    dp_group: Any
    output: LossOutput | None = None
    kept_share: float | None = field(default=None)  # of the loss tokens of the mini-batch, if it is known


CALL: ContextVar[Call | None] = ContextVar("fipo_verl_call", default=None)


@contextmanager
def whole_loss(dp_group: Any) -> Iterator[Call]:
    """Inside, `future_kl` leaves its output in the Call and returns no metrics of its own."""
    call = Call(dp_group=dp_group)
    token = CALL.set(call)
    try:
        yield call
    finally:
        CALL.reset(token)


def future_kl_loss(
    old_log_prob: Tensor,
    log_prob: Tensor,
    advantages: Tensor,
    response_mask: Tensor,
    loss_agg_mode: str = "token-mean",
    config: Any = None,
    rollout_is_weights: Tensor | None = None,
) -> tuple[Tensor, dict[str, float]]:
    """FIPO by `fipo.objective.policy_loss`, normalised as verl's `agg_loss` does it.

    Shapes: [B, T] each. config: verl's ActorConfig. rollout_is_weights: of `algorithm.rollout_correction.rollout_is`;
    each multiplies its token's loss. Returns (loss, metrics), the metrics without extremes and counts, as verl
    averages over micro-batches whatever a policy loss returns; `loss.py` has them all.
    Deviation from objective.md: where the filter drops sequences, their tokens stay in the denominator, because
    verl counts tokens before the loss; `policy_loss.denominator=kept` is exact. docs/verl.md says more.
    Errors: ValueError and VerlMismatch for settings under which this loss would not be FIPO's.
    """
    options = options_of(config)
    check_engine(config)
    call = CALL.get()
    if call is None and (options.credit_sequences or options.denominator != "verl"):
        raise ValueError(
            "policy_loss.credit_sequences and denominator=kept need `python -m fipo.integrations.verl.main` "
            "in place of verl.trainer.main_ppo"
        )
    inputs = LossInputs(
        logprobs=log_prob,
        old_logprobs=old_log_prob,
        advantages=advantages,
        loss_mask=response_mask.bool(),
        importance_weights=rollout_is_weights,
    )
    out = policy_loss(
        inputs,
        replace(options.algorithm(), aggregation=aggregation_of(loss_agg_mode)),
        denominator=denominator_of(loss_agg_mode, config.global_batch_info),
        longest=longest_of(loss_agg_mode, config),
    )
    if call is None:
        return out.loss, _averaged(out)
    call.output = out
    if options.denominator == "kept":
        call.kept_share = _kept_share(out, config, call.dp_group)
        return out.loss / max(call.kept_share, torch.finfo(torch.float32).tiny), {}
    return out.loss, {}


def options_of(actor: Any) -> Knobs:
    """FIPO's options in verl's ActorConfig, with which its clips agree.

    Raises VerlMismatch for the stock options, ValueError where a clip is one thing here and another there.
    """
    options = actor.policy_loss
    if not isinstance(options, Knobs):
        raise VerlMismatch(
            f"{POLICY_LOSS}._target_ must be {TARGET} for loss_mode {LOSS_NAME}, "
            f"got {type(options).__module__}.{type(options).__name__}"
        )
    options.check_clips(actor)
    return options


def aggregation_of(loss_agg_mode: str) -> Aggregation:
    if loss_agg_mode not in AGGREGATIONS:
        raise ValueError(f"actor.loss_agg_mode must be one of {', '.join(AGGREGATIONS)}, got {loss_agg_mode!r}")
    return cast(Aggregation, loss_agg_mode)


def denominator_of(loss_agg_mode: str, batch: dict[str, Any]) -> float | None:
    """What verl's `agg_loss` divides by: over the mini-batch of all ranks, which then average. None: unknown."""
    key = "batch_num_tokens" if loss_agg_mode == "token-mean" else "global_batch_size"
    size, ranks = batch.get(key), batch.get("dp_size", 1)
    if size is None:
        if ranks > 1:
            raise ValueError(f"verl must give {key} when dp_size > 1, got none with dp_size {ranks}")
        return None
    return max(float(size), 1.0) / float(ranks)


def longest_of(loss_agg_mode: str, config: Any) -> float | None:
    if loss_agg_mode != "seq-mean-token-sum-norm":
        return None
    if config.loss_scale_factor is None:
        raise ValueError(
            "actor.loss_scale_factor must be set with seq-mean-token-sum-norm (the longest response in tokens): "
            "without it verl divides by the padded length of each micro-batch"
        )
    return float(config.loss_scale_factor)


def _kept_share(out: LossOutput, config: Any, dp_group: Any) -> float:
    """Kept tokens / loss tokens of the mini-batch, which must be this one micro-batch on every rank."""
    if config.loss_agg_mode != "token-mean":
        return 1.0  # a dropped sequence stays in a mean over sequences
    counts = torch.stack([out.kept_tokens, out.loss_mask.sum()])
    if dp_group is not None and torch.distributed.is_initialized():
        torch.distributed.all_reduce(counts, group=dp_group)
    kept, tokens = counts.tolist()
    whole = config.global_batch_info["batch_num_tokens"]
    if tokens != int(whole):
        raise ValueError(
            "policy_loss.denominator=kept needs one micro-batch per mini-batch on every rank, "
            f"got one with {tokens} of the {int(whole)} tokens: raise ppo_micro_batch_size_per_gpu "
            "(or ppo_max_token_len_per_gpu), or use denominator=verl"
        )
    return kept / tokens if tokens else 1.0


def _averaged(out: LossOutput) -> dict[str, float]:
    from fipo.integrations.verl.metrics import means

    return means(out)


def register() -> None:
    """Register the loss with verl in this process."""
    from verl.trainer.ppo.core_algos import register_policy_loss

    register_policy_loss(LOSS_NAME)(future_kl_loss)


def require_registered() -> None:
    """Raise VerlMismatch, with the reason if it can be had, unless this process has our loss by its name.

    verl only logs at DEBUG that a plugin did not load.
    """
    from verl.trainer.ppo.core_algos import POLICY_LOSS_REGISTRY

    check_interface()
    found = POLICY_LOSS_REGISTRY.get(LOSS_NAME)
    if found is not future_kl_loss:
        raise VerlMismatch(
            f"verl's policy loss {LOSS_NAME!r} must be fipo's, got {found!r}: verl did not load the plugin `fipo` "
            "in this process; check VERL_USE_EXTERNAL_PLUGINS, and that fipo is installed here as a package"
        )
