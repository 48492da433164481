"""Typed metrics of ours as verl's.

verl reduces in two stages: over the micro-batches and ranks of a mini-batch by the type of the metric, then over the
mini-batches of a step by its name: np.max where it contains "max", np.min where it contains "min", else the mean.
So the names here contain neither word unless they mean it.
"""

import math
from collections.abc import Mapping
from typing import Any

from fipo.objective import LossOutput, Max, Mean, Metric, Min, RatioHistogram, Std, Sum

SKIPPED = ("policy/loss",)  # verl's actor/pg_loss


def means(out: LossOutput) -> dict[str, float]:
    """What may be averaged over micro-batches: means, each over this micro-batch's tokens."""
    return {
        name: metric.value for name, metric in out.metrics().items() if isinstance(metric, Mean) and name not in SKIPPED
    }


def typed(metrics: Mapping[str, Metric], *, tokens: float, ranks: float) -> dict[str, Any]:
    """Metrics of a micro-batch as verl's Metric objects, which give the mini-batch's own value.

    tokens: loss tokens of the mini-batch, over all micro-batches and ranks. ranks: data-parallel size.
    verl sums over micro-batches and averages over ranks, so a mean's part is its total x ranks / tokens.
    `mean_square` stands for the standard deviation: sqrt(mean_square - mean^2).
    """
    from verl.utils.metric import AggregationType
    from verl.utils.metric import Metric as VerlMetric

    share = ranks / max(tokens, 1.0)
    values: dict[str, tuple[str, float]] = {}
    for name, metric in metrics.items():
        match metric:
            case _ if name in SKIPPED:
                continue
            case Mean(total=total):
                values[name] = ("SUM", total * share)
            case Std(count=count, mean=mean, squares=squares):
                values[name.removesuffix("std") + "mean_square"] = ("SUM", (squares + count * mean * mean) * share)
            case Sum(total=total):
                values[name] = ("SUM", total * ranks)
            case Max(largest=largest):
                values[name] = ("MAX", largest)
            case Min(smallest=smallest):
                values[name] = ("MIN", smallest)
            case RatioHistogram(largest=Max(largest=log_ratio)):
                values[f"{name}/max"] = ("MAX", math.exp(log_ratio))
    return {name: VerlMetric(AggregationType[kind], value) for name, (kind, value) in values.items()}
