"""What the log-ratios of a step say, whatever the weights make of them: two checks that cost nothing.

x_t = log pi(t) - log pi_old(t) of the tokens of the mini-batches after the first; the policy has moved by earlier
mini-batches alone, so it knows nothing of these responses.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fipo.training.update import TrainedPack

NORMAL_95 = 1.96  # standard deviations


def drift_metrics(packs: Sequence[TrainedPack]) -> dict[str, float]:
    """How far the policy has moved, over the packs of all mini-batches after the first; {} where nothing has.

    fipo/ratio_mean              mean of exp(x_t) over the tokens. With responses sampled from pi_old and used once its
                                 expectation is 1, token by token
    fipo/ratio_mean/low, high    1 -+ (1.96 s + p): s its standard error, the responses being independent given the
                                 policies; p, half the mean square of what the sampler's log-probs differ by, is what
                                 rounding of that size adds to the mean
    fipo/response_signal         correlation within groups of sum_t x_t of a response and its advantage
    fipo/response_signal/low, high   -+ 1.96 standard deviations of it if each group's advantages were permuted
    """
    rows = [_rows(pack) for pack in packs]
    if not rows:
        return {}
    group, moved, excess, advantage, tokens, squared_gap = (torch.cat(parts) for parts in zip(*rows, strict=True))
    if not bool(moved.any()) or not bool(excess.isfinite().all()):
        return {}
    count = tokens.sum()
    margin = NORMAL_95 * excess.square().sum().sqrt() / count + 0.5 * squared_gap.sum() / count
    found = {
        "fipo/ratio_mean": float(1 + excess.sum() / count),
        "fipo/ratio_mean/low": float(1 - margin),
        "fipo/ratio_mean/high": float(1 + margin),
    }
    return found | _response_signal(group, moved, advantage)


def _rows(one: TrainedPack) -> tuple[Tensor, ...]:
    """A row a response with trained tokens: group, sum of x, sum of exp(x) - 1, advantage, tokens, sum of gaps^2."""
    mask, pack = one.pack.loss_mask, one.pack
    x = torch.where(mask, one.output.log_ratio, 0.0).double()
    gap = torch.where(mask, pack.rollout_logprobs - one.old.logprobs, 0.0).double()
    kept = mask.any(1)
    group = torch.tensor([group for group, _ in pack.rollouts], device=mask.device)
    per_row = (group, x.sum(1), x.expm1().sum(1), pack.advantages.double(), mask.sum(1), gap.square().sum(1))
    return tuple(values[kept] for values in per_row)


def _response_signal(group: Tensor, moved: Tensor, advantage: Tensor) -> dict[str, float]:
    """{} where no group holds two responses that differ in both."""
    _, index = group.unique(return_inverse=True)
    sizes = index.bincount()
    x, a = _centred(moved, index, sizes), _centred(advantage, index, sizes)
    xx, aa = (torch.zeros(len(sizes)).double().to(x).index_add(0, index, value.square()) for value in (x, a))
    scale = (xx.sum() * aa.sum()).sqrt()
    if not float(scale) > 0:
        return {}
    # A random permutation within a group of n: the variance of sum x a is xx aa / (n - 1).
    deviation = (xx * aa / (sizes - 1).clamp(min=1)).sum().sqrt() / scale
    margin = NORMAL_95 * float(deviation)
    return {
        "fipo/response_signal": float((x * a).sum() / scale),
        "fipo/response_signal/low": -margin,
        "fipo/response_signal/high": margin,
    }


def _centred(values: Tensor, index: Tensor, sizes: Tensor) -> Tensor:
    means = torch.zeros(len(sizes)).double().to(values).index_add(0, index, values) / sizes
    return values - means[index]
