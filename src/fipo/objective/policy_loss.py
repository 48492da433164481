"""The policy loss: weights, surrogate, penalties, aggregation."""

import math
from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from fipo.objective import fused
from fipo.objective.algorithm import Algorithm
from fipo.objective.config import MAX_LOG_RATIO, Aggregation, FIPOConfig, check_number
from fipo.objective.diagnostics import token_sums
from fipo.objective.influence import Influence, bounded_weights, influence_kl
from fipo.objective.kl_penalty import kl_penalty
from fipo.objective.output import LossOutput
from fipo.objective.surrogates import Tokens
from fipo.objective.types import LossInputs, RowLosses, TokenFields


def policy_loss(
    inputs: LossInputs,
    algorithm: Algorithm | FIPOConfig,
    *,
    aggregation: Aggregation | None = None,
    denominator: float | Tensor | None = None,
    longest: float | None = None,
    influence: Influence | None = None,
) -> LossOutput:
    """A policy-gradient loss with each token's advantage weighted by its future.

        A~ = A f                       f: influence weight, a constant (see influence.py)
        l  = the surrogate's           of A~ and r = exp(logprobs - old_logprobs); `clipped` unless the algorithm says
                                       otherwise (see surrogates/)
        l  = w l + kl_coef k - entropy_coef H      w: importance_weights, constants, if given; k: kl_penalty, if there
                                       is a reference; H: entropies. What follows is of all three terms: with a dropped
                                       sequence go its k and H

    algorithm: brings the surrogate, the weights f, the aggregation and the coefficients. A bare FIPOConfig is the
    Algorithm with that config, and may come with an `aggregation`, token-mean if there is none.

    loss = total / denominator. Per aggregation, with sums over kept tokens:

        aggregation                 total                                  weight (natural denominator)
        token-mean                  sum of l                               kept tokens
        seq-mean-token-mean         sum over rows of (mean of l)           rows with loss tokens
        seq-mean-token-sum          sum over rows of (sum of l)            rows with loss tokens
        seq-mean-token-sum-norm     sum over rows of (sum of l)/longest    rows with loss tokens

    denominator: None takes this batch's own weight. To make a mini-batch's gradient independent of how
    it is cut, call with 1.0 on every part, add up `out.weight`, and divide the gradients once by the sum.
    A tensor's value is not checked, as that would wait for the device; a 0 is safe when nothing was kept.
    longest: tokens of the longest response allowed, which seq-mean-token-sum-norm needs and the others ignore.
    influence: replaces the FIPO weights.
    With a reference and kl_coef 0 the divergence is measured and the loss unchanged.

    Where `fused.applies`, the sums over each sequence and their gradient come from Triton kernels; otherwise, and as
    their definition, from the equations below.

    Under `clipped` a sequence with more than max_dual_clipped_tokens dual-clipped tokens is dropped: it contributes 0,
    and under token-mean its tokens leave the denominator. A batch without kept tokens has loss 0 and
    gradient 0. Padding rows and columns change nothing.
    Errors: ValueError for arguments that do not fit.
    Source: FIPO 2603.19835 Eq. 3-8; token-mean DAPO 2503.14476; penalty GRPO 2402.03300 Eq. 4; sum-norm Dr. GRPO
    2503.20783; w see importance.py.
    Deviation: Eq. 8 averages per prompt and the released code averages micro-batch means; here one denominator serves
    the whole mini-batch.
    Shapes: those of `LossInputs`, [B, T]; the loss is [].

    >>> logprobs = torch.tensor([[-1.0, -2.0, 0.0]], requires_grad=True)
    >>> mask = [[1, 1, 0]]
    >>> inputs = LossInputs(logprobs=logprobs, old_logprobs=[[-1.0, -2.0, 0.0]], advantages=[1.0], loss_mask=mask)
    >>> out = policy_loss(inputs, FIPOConfig.release_32b())
    >>> out.loss.backward()
    >>> logprobs.grad
    tensor([[-0.5000, -0.5000,  0.0000]])
    >>> out.influence_weights, out.metrics().values()["fipo/influence_weight/mean"]
    (tensor([[1., 1., 1.]]), 1.0)
    """
    algorithm = _whole(algorithm, aggregation)
    divisor = _divisor(algorithm.aggregation, longest)
    by_kernels = influence is None and fused.applies(inputs, algorithm)
    rows = _fused_rows(inputs, algorithm) if by_kernels else _rows(inputs, algorithm, influence)
    rows, reference_kl = _with_penalty(rows, inputs, algorithm.kl_coef)
    rows = _with_bonus(rows, inputs, algorithm.entropy_coef)

    keep = _keep(rows.dual_clipped, algorithm.config.max_dual_clipped_tokens)
    sums, kept = torch.where(keep, rows.loss, 0.0), torch.where(keep, rows.tokens, 0)
    total, weight = _aggregate(sums, kept, rows.tokens, algorithm.aggregation, divisor)
    return LossOutput(
        loss=total / _checked_denominator(denominator, weight, total.dtype),
        total=total.detach(),
        weight=weight,
        kept_tokens=kept.sum(),
        kept_rows=keep,
        reference_kl=reference_kl,
        loss_mask=inputs.loss_mask,
        config=algorithm.config,
        rows=replace(rows, loss=rows.loss.detach()),
    )


def _whole(algorithm: Algorithm | FIPOConfig, aggregation: Aggregation | None) -> Algorithm:
    if isinstance(algorithm, FIPOConfig):
        return Algorithm(config=algorithm, aggregation="token-mean" if aggregation is None else aggregation)
    if aggregation is not None:
        raise ValueError(f"aggregation must be left out with an Algorithm, which brings its own, got {aggregation!r}")
    return algorithm


def _rows(inputs: LossInputs, algorithm: Algorithm, influence: Influence | None) -> RowLosses:
    """The equations of `policy_loss`, token by token, and their sums over each sequence."""
    cfg, surrogate, loss_mask = algorithm.config, algorithm.surrogate, inputs.loss_mask
    log_ratio = _masked_log_ratio(inputs)
    advantages = _masked_advantages(inputs, log_ratio.dtype)

    with torch.no_grad():
        constant = log_ratio.detach()
        kl = influence_kl(constant, loss_mask, cfg)
        if influence is None:
            f = bounded_weights(kl, constant, advantages, cfg)
        else:
            f = _checked_weights(influence(constant, advantages, loss_mask, cfg), constant)

    weighted = advantages * f
    ratio = log_ratio.exp()
    losses = surrogate.losses(Tokens(inputs=inputs, log_ratio=log_ratio, ratio=ratio, advantages=weighted), cfg)
    if inputs.importance_weights is not None:
        losses = losses * _masked(inputs.importance_weights, loss_mask, losses.dtype)

    held = Tokens(inputs=inputs.detached(), log_ratio=constant, ratio=ratio.detach(), advantages=weighted)
    dual_clipped = surrogate.dual_clipped(held, cfg)
    stopped = torch.zeros_like(loss_mask) if dual_clipped is None else dual_clipped

    @cache
    def fields() -> TokenFields:
        high, low = surrogate.held_back(held, cfg) or (None, None)
        return TokenFields(
            log_ratio=constant,
            ratio=held.ratio,
            future_kl=kl,
            influence_weights=f,
            advantages=advantages,
            clipped_high=high,
            clipped_low=low,
            dual_clipped=dual_clipped,
        )

    return RowLosses(
        loss=torch.where(loss_mask, losses, 0.0).sum(dim=1),
        tokens=loss_mask.sum(dim=1),
        dual_clipped=stopped.sum(dim=1),
        fields=fields,
        sums=lambda: token_sums(fields(), loss_mask, cfg),
    )


def _fused_rows(inputs: LossInputs, algorithm: Algorithm) -> RowLosses:
    """The same by the kernels of `fused`; the per-token fields by the equations, when somebody looks."""
    constant = inputs.detached()
    return fused.row_losses(inputs, algorithm.config, fields=lambda: _rows(constant, algorithm, None).fields())


def _masked_log_ratio(inputs: LossInputs) -> Tensor:
    """log r, with the graph. Masked BEFORE exp: 0 * inf would let padding into the gradient as NaN."""
    dtype = torch.promote_types(inputs.logprobs.dtype, inputs.old_logprobs.dtype)
    dtype = torch.promote_types(dtype, torch.float32)
    log_ratio = inputs.logprobs.to(dtype) - inputs.old_logprobs.detach().to(dtype)
    return torch.where(inputs.loss_mask, log_ratio, 0.0).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)


def _masked_advantages(inputs: LossInputs, dtype: torch.dtype) -> Tensor:
    """The advantage of every token, [B, T], 0 off the mask."""
    advantages = inputs.advantages if inputs.advantages.dim() == 2 else inputs.advantages[:, None]
    return _masked(advantages, inputs.loss_mask, dtype)


def _masked(constant: Tensor, loss_mask: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.where(loss_mask, constant.detach().to(dtype), 0.0)


def _with_penalty(rows: RowLosses, inputs: LossInputs, kl_coef: float) -> tuple[RowLosses, Tensor | None]:
    """The rows with their tokens' KL penalty in the loss, and its sum over the batch; None without a reference."""
    if inputs.reference_logprobs is None:
        if kl_coef > 0:
            raise ValueError(f"kl_coef must be 0 without reference_logprobs, got {kl_coef!r}")
        return rows, None
    penalty = kl_penalty(inputs.logprobs, inputs.reference_logprobs, inputs.loss_mask).sum(dim=1)
    return replace(rows, loss=rows.loss + kl_coef * penalty), penalty.detach().sum()


def _with_bonus(rows: RowLosses, inputs: LossInputs, entropy_coef: float) -> RowLosses:
    """The rows with their tokens' entropy bonus in the loss."""
    if entropy_coef == 0:
        return rows
    if inputs.entropies is None:
        raise ValueError(f"entropy_coef must be 0 without entropies, got {entropy_coef!r}")
    entropies = torch.where(inputs.loss_mask, inputs.entropies.to(rows.loss.dtype), 0.0).sum(dim=1)
    return replace(rows, loss=rows.loss - entropy_coef * entropies)


def _keep(dual_clipped: Tensor, limit: int | None) -> Tensor:
    """The sequences with at most `limit` dual-clipped tokens, [B] bool (released code only)."""
    return torch.ones_like(dual_clipped, dtype=torch.bool) if limit is None else dual_clipped <= limit


def _aggregate(
    sums: Tensor, kept: Tensor, tokens: Tensor, aggregation: Aggregation, divisor: float
) -> tuple[Tensor, Tensor]:
    """(total, weight) of the table in `policy_loss`, from each row's loss, kept tokens and loss tokens, [B].

    A dropped sequence stays in the mean over sequences (released behaviour); a row of padding was never one.
    """
    if aggregation == "token-mean":
        return sums.sum(), kept.sum()
    if aggregation == "seq-mean-token-mean":
        sums = sums / kept.clamp(min=1)
    elif aggregation == "seq-mean-token-sum-norm":
        sums = sums / divisor
    return sums.sum(), (tokens > 0).sum()


def _checked_denominator(denominator: float | Tensor | None, weight: Tensor, dtype: torch.dtype) -> float | Tensor:
    if denominator is None:
        return weight.clamp(min=1)  # a weight of 0 comes with a total of 0
    if isinstance(denominator, Tensor):
        if denominator.dim() != 0:
            raise ValueError(f"denominator must be a number or a 0-dim tensor, got shape {list(denominator.shape)}")
        return denominator.detach().to(dtype).clamp(min=torch.finfo(dtype).tiny)
    check_number("denominator", denominator, "> 0 and finite", lambda v: 0 < v < math.inf)
    return denominator


def _divisor(aggregation: Aggregation, longest: float | None) -> float:
    """What a sequence's sum is divided by."""
    if aggregation != "seq-mean-token-sum-norm":
        return 1.0
    rule = "> 0 tokens and finite under seq-mean-token-sum-norm"
    if longest is None:
        raise ValueError(f"longest must be {rule}, got None")
    check_number("longest", longest, rule, lambda v: 0 < v < math.inf)
    return longest


def _checked_weights(f: Tensor, like: Tensor) -> Tensor:
    if f.shape != like.shape:
        raise ValueError(f"influence must return weights of shape {list(like.shape)}, got {list(f.shape)}")
    return f.detach().to(like.dtype)
