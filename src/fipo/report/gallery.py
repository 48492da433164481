"""Three groups that show what the weights of a run do: the most amplified, the most attenuated, the widest spread."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any, Literal

from fipo.report.credit_sample import Sample
from fipo.report.credit_tokens import left_out
from fipo.telemetry.rollouts import RolloutRecord

MOVED = 0.005  # from 1: less is 1.00 in the two digits that are shown

Kind = Literal["amplified", "attenuated", "widest"]


@dataclass(frozen=True, kw_only=True)
class Weighed:
    """The weights of a response, or of the responses of a group."""

    place: tuple[int, int, int]  # step, group, member
    advantage: float | None
    weights: list[float]
    before: float  # mean of exp(FutureKL), which is f without its bounds

    @property
    def mean(self) -> float:
        return fmean(self.weights)

    @property
    def sd(self) -> float:
        return pstdev(self.weights)


def gallery(sample: Sample) -> list[dict[str, Any]]:
    """At most one of each kind, all of them different groups; [] where no weight has left 1.

    kind          amplified: the largest mean f, attenuated: the smallest, widest: the largest standard deviation of f
    step, group   where it is
    members       the response that is the most so, and of those on the other side of the advantage the one least so
    low, mean, high, sd   of f over the group's tokens in the loss
    held          exp(FutureKL) on average, where a bound holds all that would be attenuated at 1; else None
    """
    groups = list(_groups(sample))
    if all(abs(weight - 1) < MOVED for group in groups for one in group for weight in one.weights):
        return []
    free = min(weight for group in groups for one in group for weight in one.weights) < 1 - MOVED
    orders: dict[Kind, Callable[[Weighed], float]] = {
        "amplified": lambda one: one.mean,
        "attenuated": lambda one: -one.mean if free else -one.before,
        "widest": lambda one: one.sd,
    }
    chosen: list[dict[str, Any]] = []
    for kind, order in orders.items():
        left = [group for group in groups if all(_at(group) != (one["step"], one["group"]) for one in chosen)]
        if left:
            best = max(left, key=lambda group: order(_together(group)))
            chosen.append(_pick(kind, best, order, held=kind == "attenuated" and not free))
    return chosen


def _pick(kind: Kind, group: list[Weighed], order: Callable[[Weighed], float], *, held: bool) -> dict[str, Any]:
    whole, most = _together(group), max(group, key=order)
    others = [one for one in group if (one.advantage or 0) * (most.advantage or 0) < 0]
    members = [most, *([min(others, key=order)] if others else [])]
    return {
        "kind": kind,
        "step": whole.place[0],
        "group": whole.place[1],
        "members": [one.place[2] for one in members],
        "low": min(whole.weights),
        "mean": whole.mean,
        "high": max(whole.weights),
        "sd": whole.sd,
        "held": whole.before if held else None,
    }


def _groups(sample: Sample) -> Iterator[list[Weighed]]:
    for step, groups in sample.steps.items():
        for g, group in enumerate(groups):
            weighed = [one for m, record in enumerate(group) if (one := _weighed((step, g, m), record)) is not None]
            if weighed:
                yield weighed


def _weighed(place: tuple[int, int, int], record: RolloutRecord) -> Weighed | None:
    """None without weights in the loss."""
    weights = [weight for weight in record.get("influence_weight") or [] if weight is not None]
    future = [kl for kl in record.get("future_kl") or [] if kl is not None]
    if left_out(record) is not None or not weights or not future:
        return None
    return Weighed(place=place, advantage=record.get("advantage"), weights=weights, before=fmean(map(_exp, future)))


def _exp(value: float) -> float:
    return math.exp(min(value, 100.0))


def _together(group: list[Weighed]) -> Weighed:
    return Weighed(
        place=group[0].place,
        advantage=None,
        weights=[weight for one in group for weight in one.weights],
        before=fmean(one.before for one in group),
    )


def _at(group: list[Weighed]) -> tuple[int, int]:
    return group[0].place[:2]
