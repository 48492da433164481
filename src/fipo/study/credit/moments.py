"""What the record of a measured group keeps: sums over tokens, from which every estimand can be put together."""

import torch
from torch import Tensor

from fipo.study.credit.signals import BOUNDS, Measured

Moments = dict[str, list[float]]


def moments(m: Measured, mistakes: Tensor, rows: list[int]) -> Moments:
    """The moments of one group, `rows` of [B, K].

    x, A; F, A; future, A; F, R - V; base, A   [n, u, v, u^2, v^2, u v] of two quantities over tokens, summed
    P BOUNDS right, wrong   [f^2, a^2, f a] of f and a = sign(A_hat) A, each less its mean in the response
    ratio      [tokens, e^x, e^2x]
    spread     [F^2, what it would be with x of random signs], each around the response's own mean of F
    responses  the sum of x, and A_hat, in turn
    mistake    [tokens, F] before, on and after the mistake of wrong responses, then [tokens, x] on it, elsewhere
    """
    mask, kl = m.loss_mask, m.future_kl()
    of = {
        "x, A": (m.log_ratio, m.truth),
        "F, A": (kl, m.truth),
        "future, A": (kl - m.log_ratio, m.truth),
        "F, R - V": (kl, m.rewards[:, None] - m.values),
        "base, A": (m.reference_ratio, m.truth),
    }
    kept = torch.zeros(len(mask), dtype=torch.bool)
    kept[rows] = True
    own = mask & kept[:, None]
    found = {name: _sums(u[own], v[own]) for name, (u, v) in of.items()}
    for name, bounds in BOUNDS.items():
        f = kl.exp().clamp(*bounds)
        for what, chosen in (("right", m.rewards > 0), ("wrong", m.rewards == 0)):
            picked = [b for b in rows if chosen[b]]
            found[f"P {name} {what}"] = _within(f, m.advantages.sign() * m.truth, mask, picked)
    x = m.log_ratio[own].double()
    found["ratio"] = [float(len(x)), float(x.exp().sum()), float((2 * x).exp().sum())]
    found["spread"] = _spread(kl, m, rows)
    found["responses"] = [float(value) for b in rows for value in (m.log_ratio[b][mask[b]].sum(), m.advantages[b, 0])]
    found["mistake"] = _around(kl, m, mistakes, rows)
    return found


def _sums(u: Tensor, v: Tensor) -> list[float]:
    u, v = u.double(), v.double()
    return [float(len(u)), *(float(value.sum()) for value in (u, v, u * u, v * v, u * v))]


def _within(f: Tensor, a: Tensor, mask: Tensor, rows: list[int]) -> list[float]:
    sums = torch.zeros(3, dtype=torch.float64)
    for b in rows:
        own_f, own_a = f[b][mask[b]].double(), a[b][mask[b]].double()
        own_f, own_a = own_f - own_f.mean(), own_a - own_a.mean()
        sums += torch.stack([own_f @ own_f, own_a @ own_a, own_f @ own_a])
    return sums.tolist()


def _spread(kl: Tensor, m: Measured, rows: list[int]) -> list[float]:
    """F has the kernel K (upper triangle, gamma^h): with random signs E|F - mean|^2 = sum over k of x_k^2 |C K_k|^2."""
    sums = torch.zeros(2, dtype=torch.float64)
    for b in rows:
        x, own = m.log_ratio[b][m.loss_mask[b]].double(), kl[b][m.loss_mask[b]].double()
        place = torch.arange(len(x))
        distance = place[None, :] - place[:, None]
        kernel = torch.where(distance >= 0, 2.0 ** (-distance / 32.0), 0.0).double()
        centred = kernel - kernel.mean(0, keepdim=True)
        sums += torch.stack([(own - own.mean()).square().sum(), (centred.square().sum(0) * x.square()).sum()])
    return sums.tolist()


def _around(kl: Tensor, m: Measured, mistakes: Tensor, rows: list[int]) -> list[float]:
    sums = torch.zeros(10, dtype=torch.float64)
    for b in rows:
        if not bool(mistakes[b].any()):
            continue
        at, length = int(mistakes[b].nonzero()[0]), int(m.loss_mask[b].sum())
        own, x = kl[b, :length].double(), m.log_ratio[b, :length].double()
        parts = (own[:at], own[at : at + 1], own[at + 1 :], x[at : at + 1], torch.cat([x[:at], x[at + 1 :]]))
        sums += torch.tensor([value for part in parts for value in (float(len(part)), float(part.sum()))]).double()
    return sums.tolist()
