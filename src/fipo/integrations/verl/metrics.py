"""Our metrics through verl's reductions.

verl reduces a metric over micro-batches and ranks by its type, then over the mini-batches of a step by a word in its
name, or else by np.mean. So all of ours travel under one name, in an object that is merged wherever verl adds, and that
a division leaves alone: what arrives is over every token of the step.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fipo.objective import LossOutput, Mean, Metric, merge_metrics, metric_values

TRAVELS_AS = "fipo"
SKIPPED = ("policy/loss",)  # verl's actor/pg_loss


@dataclass(frozen=True)
class Travelling:
    """The metrics of a micro-batch, or of what verl made one of."""

    metrics: Mapping[str, Metric]

    def __add__(self, other: "Travelling") -> "Travelling":
        return Travelling(merge_metrics([self.metrics, other.metrics]))

    def __truediv__(self, parts: float) -> "Travelling":
        return self

    def __iter__(self) -> Iterator["Travelling"]:
        yield self  # without data parallelism verl takes what it finds for the list of a rank


def travelling(out: LossOutput, *, mini_batch: int | None, more: Mapping[str, Metric]) -> dict[str, Any]:
    """What the loss of a micro-batch returns. mini_batch: which one of the step, for the weights of each."""
    metrics = {name: metric for name, metric in out.metrics().items() if name not in SKIPPED}
    if mini_batch is not None:
        for statistic in ("influence_weight/mean", "influence_weight/std"):
            metrics[f"fipo/mini_batch_{mini_batch}/{statistic}"] = metrics[f"fipo/{statistic}"]
    metrics["fipo/kept_token_share"] = Mean(float(out.kept_tokens), float(out.loss_mask.sum()))
    return {TRAVELS_AS: Travelling(metrics | dict(more))}


def take(metrics: dict[str, Any]) -> list[Travelling]:
    """What has travelled with an update, out of its metrics; at most one."""
    arrived = metrics.pop(f"actor/{TRAVELS_AS}", None)
    return [] if arrived is None else [arrived]


def values_of(arrived: Sequence[Travelling]) -> dict[str, float]:
    """Over all tokens of these updates, under `actor/` as verl's own."""
    merged = merge_metrics([one.metrics for one in arrived])
    return {f"actor/{name}": value for name, value in metric_values(merged).items()}


def means(out: LossOutput) -> dict[str, float]:
    """What may be averaged over micro-batches, for verl's own trainer: means, each over this micro-batch's tokens."""
    return {
        name: metric.value for name, metric in out.metrics().items() if isinstance(metric, Mean) and name not in SKIPPED
    }
