"""Sets of weights for the same tokens: FIPO's, what it could have been, and what it should be."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fipo.objective import FIPOConfig, bounded_weights, fipo_influence, future_kl, participating
from fipo.study.controls import averaged, past
from fipo.study.credit.critic import gae

BOUNDS = {"1.0-1.2": (1.0, 1.2), "0.8-1.2": (0.8, 1.2), "0-10": (0.0, 10.0)}
FIPO = replace(FIPOConfig.release_32b(), influence_clip=BOUNDS["0-10"])


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What is known of the measured responses, [B, K] each; 0 off the mask."""

    log_ratio: Tensor  # x: the policy after the updates against the one that sampled
    reference_ratio: Tensor  # the policy after the updates against the base
    advantages: Tensor  # DAPO's A_hat, one number a row
    truth: Tensor  # true advantages under the policy that sampled
    values: Tensor  # true V(s_t)
    critic: Tensor  # the learned V(s_t)
    rewards: Tensor  # [B] 1 or 0
    loss_mask: Tensor  # bool

    def future_kl(self, half_life: float = 32.0) -> Tensor:
        return future_kl(participating(self.log_ratio, self.loss_mask, FIPO.dual_clip), half_life)


def weights(m: Measured, shuffles: int, seed: int) -> Iterator[tuple[str, Tensor]]:
    """(name, f [B, K]): f multiplies A_hat. `NAME/shuffled_I` and `NAME/averaged` are the twins of NAME.

    FIPO in its bounds; other sums of log-ratios as they are, in (0, 10), "signed" ones times the sign of A_hat; the
    truth, sign(A_hat) A, scaled to the spread of the FutureKL. What replaces A_hat comes as its ratio to A_hat.
    """
    sign, mask = m.advantages.sign(), m.loss_mask
    f_kl = m.future_kl()
    yield "dapo", torch.ones_like(f_kl)
    for name, bounds in BOUNDS.items():
        cfg = replace(FIPO, influence_clip=bounds)
        f = fipo_influence(m.log_ratio, m.advantages, mask, cfg)
        yield from _with_twins(f"fipo {name}", f, mask, shuffles, seed)
        yield f"fipo {name}/averaged", averaged(m.log_ratio, m.advantages, mask, cfg)
    backwards = past(m.log_ratio, m.advantages, mask, FIPO).log()
    signals = {
        "past": backwards,
        "own token": m.log_ratio,
        "future without own": f_kl - m.log_ratio,
        "half-life 8": m.future_kl(8.0),
        "half-life 128": m.future_kl(128.0),
        "suffix": m.future_kl(float("inf")),
        "signed own token": sign * m.log_ratio,
        "signed against the base": sign * m.reference_ratio,
    }
    for name, signal in signals.items():
        f = bounded_weights(torch.where(mask, signal, 0.0), m.log_ratio, m.advantages, FIPO)
        yield from _with_twins(name, f, mask, shuffles, seed)
    signal = sign * m.truth * (f_kl[mask].std() / m.truth[mask].std())
    for name, bounds in BOUNDS.items():
        yield from _with_twins(f"truth {name}", signal.exp().clamp(*bounds), mask, shuffles, seed)
    critic = gae(m.critic, m.rewards, m.loss_mask)
    replaced = {"truth": m.truth, "R - V": m.rewards[:, None] - m.values, "critic": critic}
    for name, advantages in replaced.items():
        yield name, torch.where(mask, advantages / m.advantages, 0.0)


def _with_twins(name: str, f: Tensor, mask: Tensor, shuffles: int, seed: int) -> Iterator[tuple[str, Tensor]]:
    yield name, f
    generator = torch.Generator().manual_seed(seed)
    for i in range(shuffles):
        twin = f.clone()
        for row, own in zip(twin, mask, strict=True):
            values = row[own]
            row[own] = values[torch.randperm(len(values), generator=generator)]
        yield f"{name}/shuffled_{i}", twin
