"""The flipped control: is the FutureKL spread as sums of log-ratios of random signs would be?"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from fipo.doctor.findings import CannotTell
from fipo.doctor.run.history import WINDOW, History
from fipo.errors import UserError
from fipo.objective import future_kl

FLIPS = 39  # the recorded spread is the smallest or the largest of 40 by chance once in twenty
FAR = 1.25  # times as much or as little: in healthy runs of ours it was .9 to 1.05
LEAST_TOKENS = 2000  # in fewer, flips differ by more than 10%
MOST_TOKENS = 100_000  # more make the answer no clearer and the wait longer

Rows = list[list[float]]


@dataclass(frozen=True, kw_only=True)
class SpreadControl:
    """The spread of the FutureKL within responses over that of its flips."""

    ratio: float  # recorded spread / mean spread of the flips
    low: float  # smallest and largest spread of a flip, over the same mean
    high: float
    steps: tuple[int, int]  # the first and the last whose rollouts were read
    responses: int
    tokens: int
    flips: int

    @property
    def far(self) -> bool:
        return not (min(self.low, 1 / FAR) <= self.ratio <= max(self.high, FAR))


def flipped_control(history: History, steps: int = WINDOW) -> SpreadControl:
    """Flip each log-ratio's sign at random and sum them up again, in the last mini-batches of the newest `steps` steps.

    For responses sampled from the old policy and used once, log-ratios of different tokens are uncorrelated whatever
    they say, so their sums are spread as these are: a spread of 1 is neither noise nor signal.

    Raises CannotTell for a run without such rollouts, or with too few tokens in them.
    """
    half_life = history.setting("resolved", "objective", "half_life")
    if half_life is None:
        raise CannotTell("config.toml holds no resolved half_life")
    dual_clip = history.setting("resolved", "objective", "dual_clip", default=math.inf)
    batches = _last_mini_batches(history, steps)
    tokens = sum(len(row) for rows in batches.values() for row in rows)
    if tokens < LEAST_TOKENS:
        raise CannotTell(f"{tokens} of the {LEAST_TOKENS:,} recorded tokens that it takes")
    padded = [_padded(rows, dual_clip) for rows in batches.values()]
    recorded = _log_spread(padded, half_life)
    generator = torch.Generator().manual_seed(0)
    flipped = []
    for _ in range(FLIPS):
        flipped.append(_log_spread([(_flipped(x, generator), mask) for x, mask in padded], half_life))
    centre = sum(flipped) / FLIPS
    return SpreadControl(
        ratio=math.exp(recorded - centre),
        low=math.exp(min(flipped) - centre),
        high=math.exp(max(flipped) - centre),
        steps=(min(batches), max(batches)),
        responses=sum(len(rows) for rows in batches.values()),
        tokens=tokens,
        flips=FLIPS,
    )


def _last_mini_batches(history: History, steps: int) -> dict[int, Rows]:
    """By step, newest first: the log-ratios of the last mini-batch's responses, as far as they moved."""
    found: dict[int, Rows] = {}
    tokens = 0
    for line in reversed(history.training[-steps:]):
        step = int(line["step"])
        try:
            records = history.run.read_rollouts(step)
        except (FileNotFoundError, UserError):  # not recorded, or half of a file that was copied
            continue
        credited = [record for record in records if record.get("log_ratio") and record.get("mini_batch", 0) > 0]
        last = max((record["mini_batch"] for record in credited), default=0)
        rows = [[x or 0.0 for x in record["log_ratio"]] for record in credited if record["mini_batch"] == last]
        rows = [row for row in rows if len(row) > 1 and any(row)]
        if rows:
            found[step] = rows
        tokens += sum(map(len, rows))
        if tokens >= MOST_TOKENS:
            break
    if not found:
        raise CannotTell("rollouts/ holds no responses of a later mini-batch with their log-ratios")
    return found


def _padded(rows: Rows, dual_clip: float) -> tuple[Tensor, Tensor]:
    """[B, T] log-ratios of the participating tokens, 0 elsewhere, and where there are tokens."""
    width = max(map(len, rows))
    mask = torch.tensor([[i < len(row) for i in range(width)] for row in rows])
    x = torch.tensor([row + [0.0] * (width - len(row)) for row in rows])
    return torch.where(x <= math.log(dual_clip), x, 0.0), mask


def _flipped(x: Tensor, generator: torch.Generator) -> Tensor:
    return x * (2 * torch.randint(0, 2, x.shape, generator=generator) - 1)


def _log_spread(batches: list[tuple[Tensor, Tensor]], half_life: float) -> float:
    """The mean over steps of the log of the FutureKL's standard deviation around its mean in each response."""
    logs = []
    for x, mask in batches:
        kl = future_kl(x, half_life)
        mean = (kl * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True)
        variance = (((kl - mean) * mask) ** 2).sum() / mask.sum()
        logs.append(0.5 * math.log(max(float(variance), 1e-30)))
    return sum(logs) / len(logs)
