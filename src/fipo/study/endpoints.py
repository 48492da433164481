"""What a run came to, as one number each, from its metrics."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

Line = dict[str, float]  # of metrics.jsonl
LATE = 0.1  # of the training steps count as the end
SPIKE = 1e-3  # a step with this share of its tokens dual-clipped spikes; without drift there is none at all
COLLAPSE = 0.5  # of the greatest response length before, or less


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    title: str
    value: Callable[[Sequence[Line]], float | None]  # None where the run does not have it
    digits: int = 3
    counts: bool = False  # 1 or 0 for a run: shown as how many


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


def _collapse(lines: Sequence[Line]) -> int | None:
    """The first step whose mean response length is at most COLLAPSE times the greatest before it."""
    greatest = 0.0
    for line in lines:
        length = line.get("response_length/mean")
        if length is not None:
            if length <= COLLAPSE * greatest:
                return int(line["step"])
            greatest = max(greatest, length)
    return None


def _spiked(lines: Sequence[Line]) -> float | None:
    """None for a run whose surrogate has no dual clip."""
    return float(bool(_spikes(lines))) if _has_dual_clip(lines) else None


def _has_dual_clip(lines: Sequence[Line]) -> bool:
    return any("policy/dual_clip_fraction" in line for line in lines)


def _spikes(lines: Sequence[Line]) -> list[int]:
    return [int(line["step"]) for line in lines if line.get("policy/dual_clip_fraction", 0.0) >= SPIKE]


def speed_scale(lines: Sequence[Line]) -> float | None:
    """What a run that learns s times as fast again gains in mean reward, over s, to first order.

    Of r(t), t from 0 to T, read at t (1 + s): the mean of t r'(t), which is r(T) less the mean of r.
    """
    late, mean = _late("reward/mean")(lines), _mean("reward/mean")(lines)
    return None if late is None or mean is None else late - mean


def _spiked_before_collapse(lines: Sequence[Line]) -> float | None:
    """None for a run without a collapse, or without a dual clip."""
    collapse = _collapse(lines)
    return (
        None
        if collapse is None or not _has_dual_clip(lines)
        else float(any(step < collapse for step in _spikes(lines)))
    )


TESTED = {  # in this order: the first is the primary one
    "reward": Endpoint(title="training reward, mean over steps", value=_mean("reward/mean"), digits=4),
    "avg_at_k": Endpoint(title="final held-out avg@k", value=_evaluated("eval/avg_at_k", lambda v: v[-1]), digits=4),
    "length": Endpoint(
        title="final held-out response length", value=_evaluated("eval/response_length/mean", lambda v: v[-1]), digits=2
    ),
}
LEARNING = TESTED | {
    "best_avg_at_k": Endpoint(title="best held-out avg@k", value=_evaluated("eval/avg_at_k", max), digits=4),
    "pass_at_k": Endpoint(title="final pass@k", value=_evaluated("eval/pass_at_k", lambda v: v[-1])),
    "entropy": Endpoint(title="entropy, last tenth of the steps", value=_late("policy/entropy")),
}
WEIGHTS = {
    "groups": Endpoint(title="groups trained on a step", value=_mean("groups/kept"), digits=1),
    "mean_f": Endpoint(title="mean f", value=_mean("fipo/influence_weight/mean"), digits=4),
    "spread_f": Endpoint(title="std of f", value=_mean("fipo/influence_weight/std"), digits=4),
    "raw_spread": Endpoint(title="std of exp(FutureKL)", value=_mean("fipo/raw_influence_weight/std"), digits=4),
    # Of studies archived before 0.7, which shuffled the log-ratios in place of flipping their signs.
    "noise": Endpoint(title="spread of FutureKL / shuffled", value=_late("fipo/spread_over_shuffled"), digits=3),
    "spread": Endpoint(title="spread of FutureKL / flipped", value=_late("fipo/spread_over_flipped"), digits=3),
    "rounding": Endpoint(title="rounding of FutureKL / FutureKL", value=_mean("fipo/future_kl_noise"), digits=3),
    "signal": Endpoint(title="response signal", value=_mean("fipo/response_signal"), digits=3),
}
STABILITY = {
    "dual_clip": Endpoint(
        title="largest dual-clip fraction of a step", value=_most("policy/dual_clip_fraction"), digits=5
    ),
    "spiked": Endpoint(title="runs with a dual-clip spike", value=_spiked, counts=True),
    "collapsed": Endpoint(
        title="runs whose length collapsed", value=lambda lines: float(_collapse(lines) is not None), counts=True
    ),
    "spiked_first": Endpoint(title="of these, spiked before", value=_spiked_before_collapse, counts=True),
    "filtered": Endpoint(title="sequences filtered a step", value=_mean("policy/filtered_sequences"), digits=3),
    "grad_norm": Endpoint(title="largest gradient norm (mean of a step)", value=_most("policy/grad_norm"), digits=2),
    "skipped": Endpoint(title="skipped updates a step", value=_mean("update/skipped"), digits=3),
}
DESCRIBED = {"What the arms reach": LEARNING, "Their updates and weights": WEIGHTS, "Their stability": STABILITY}
ENDPOINTS = LEARNING | WEIGHTS | STABILITY
