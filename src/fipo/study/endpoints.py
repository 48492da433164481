"""What a run came to, as one number each, from its metrics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

Line = dict[str, float]  # of metrics.jsonl
LATE = 0.1  # of the training steps count as the end


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    title: str
    value: Callable[[Sequence[Line]], float | None]  # None where the run does not have it
    digits: int = 3


def _training(lines: Sequence[Line], key: str) -> list[float]:
    return [line[key] for line in lines if line["step"] > 0 and key in line]


def _mean(key: str) -> Callable[[Sequence[Line]], float | None]:
    return lambda lines: fmean(values) if (values := _training(lines, key)) else None


def _late(key: str) -> Callable[[Sequence[Line]], float | None]:
    def value(lines: Sequence[Line]) -> float | None:
        values = _training(lines, key)
        return fmean(values[-max(1, round(LATE * len(values))) :]) if values else None

    return value


def _most(key: str) -> Callable[[Sequence[Line]], float | None]:
    return lambda lines: max(_training(lines, key), default=None)


def _evaluated(key: str, pick: Callable[[list[float]], float]) -> Callable[[Sequence[Line]], float | None]:
    return lambda lines: pick(values) if (values := [line[key] for line in lines if key in line]) else None


TESTED = {  # in this order: the first is the primary one
    "reward": Endpoint(title="training reward, mean over steps", value=_mean("reward/mean"), digits=4),
    "avg_at_k": Endpoint(title="final held-out avg@k", value=_evaluated("eval/avg_at_k", lambda v: v[-1]), digits=4),
    "length": Endpoint(
        title="final held-out response length", value=_evaluated("eval/response_length/mean", lambda v: v[-1]), digits=2
    ),
}
DESCRIBED = {
    "best_avg_at_k": Endpoint(title="best held-out avg@k", value=_evaluated("eval/avg_at_k", max), digits=4),
    "pass_at_k": Endpoint(title="final pass@k", value=_evaluated("eval/pass_at_k", lambda v: v[-1])),
    "entropy": Endpoint(title="entropy, last tenth of the steps", value=_late("policy/entropy")),
    "mean_f": Endpoint(title="mean f", value=_mean("fipo/influence_weight/mean"), digits=4),
    "spread_f": Endpoint(title="std of f", value=_mean("fipo/influence_weight/std"), digits=4),
    "raw_spread": Endpoint(title="std of exp(FutureKL)", value=_mean("fipo/raw_influence_weight/std"), digits=4),
    "dual_clip": Endpoint(
        title="largest dual-clip fraction of a step", value=_most("policy/dual_clip_fraction"), digits=5
    ),
    "grad_norm": Endpoint(title="largest gradient norm", value=_most("policy/grad_norm"), digits=2),
    "skipped": Endpoint(title="skipped updates a step", value=_mean("update/skipped"), digits=3),
}
ENDPOINTS = TESTED | DESCRIBED
