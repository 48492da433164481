"""The tokens of a run whose advantages FIPO amplified and attenuated the most."""

import heapq
from collections.abc import Callable, Iterator
from statistics import fmean
from typing import Any

from fipo.report.credit_sample import Sample
from fipo.telemetry.rollouts import RolloutRecord

OCCURRENCES = 5  # a token with fewer has no mean worth ranking
ROWS = 10
CONTEXT = 8  # tokens on either side
PART = "\ufffd"  # what a token decodes to that holds some bytes of a character: many tokens look like it

Place = tuple[int, int, int, int]  # step, group, member, position


def ranked_tokens(sample: Sample) -> dict[str, Any]:
    """The extreme tokens of the responses in the loss of the last mini-batch: single ones, and means by token.

    mini_batch    which one that is, None where none is recorded
    responses     how many there are
    occurrences   how often a token must occur to be in by_token
    amplified, attenuated   up to ROWS each of by_token, without parts of characters, and of single: one a response;
                            the weights beyond 1 only
    """
    mini_batch = max((n for _, record in _responses(sample) if (n := record.get("mini_batch")) is not None), default=-1)
    chosen = {
        place: record
        for place, record in _responses(sample)
        if record.get("mini_batch") == mini_batch and left_out(record) is None and record.get("influence_weight")
    }
    weights: dict[str, list[float]] = {}
    for record in chosen.values():
        for token, weight in zip(record["tokens"], record["influence_weight"], strict=True):
            if weight is not None and PART not in token:
                weights.setdefault(token, []).append(weight)
    means = [_statistics(token, values) for token, values in weights.items() if len(values) >= OCCURRENCES]
    above, below = (row for row in means if row["mean"] > 1), (row for row in means if row["mean"] < 1)
    amplified = heapq.nlargest(ROWS, (one for one in _extremes(chosen, max) if one[0] > 1))
    attenuated = heapq.nsmallest(ROWS, (one for one in _extremes(chosen, min) if one[0] < 1))
    return {
        "mini_batch": mini_batch if mini_batch >= 0 else None,
        "responses": len(chosen),
        "occurrences": OCCURRENCES,
        "amplified": {
            "by_token": heapq.nlargest(ROWS, above, key=lambda row: row["mean"]),
            "single": [_in_context(sample, place) for _, _, place in amplified],
        },
        "attenuated": {
            "by_token": heapq.nsmallest(ROWS, below, key=lambda row: row["mean"]),
            "single": [_in_context(sample, place) for _, _, place in attenuated],
        },
    }


def _statistics(token: str, weights: list[float]) -> dict[str, Any]:
    return {"token": token, "n": len(weights), "mean": fmean(weights), "min": min(weights), "max": max(weights)}


def left_out(record: RolloutRecord) -> str | None:
    """Why nothing of the response is in the loss; "unknown" where an older run does not say."""
    if "left_out" in record or record.get("in_loss", True):
        return record.get("left_out")
    return "unknown" if record.get("influence_weight") else "masked"


def _responses(sample: Sample) -> Iterator[tuple[tuple[int, int, int], RolloutRecord]]:
    for step, groups in sample.steps.items():
        for g, group in enumerate(groups):
            for m, record in enumerate(group):
                yield (step, g, m), record


def _extremes(
    chosen: dict[tuple[int, int, int], RolloutRecord], extreme: Callable[..., Any]
) -> Iterator[tuple[float, float, Place]]:
    """The extreme f of each response; the future KL tells those apart that are at one bound."""
    for (step, g, m), record in chosen.items():
        weights = [
            (weight, kl or 0.0, (step, g, m, i))
            for i, (weight, kl) in enumerate(zip(record["influence_weight"], record["future_kl"], strict=True))
            if weight is not None
        ]
        if weights:
            yield extreme(weights)


def _in_context(sample: Sample, place: Place) -> dict[str, Any]:
    step, g, m, i = place
    record = sample.steps[step][g][m]
    tokens = record["tokens"]
    return {
        "step": step,
        "group": g,
        "member": m,
        "position": i,
        "before": "".join(tokens[max(0, i - CONTEXT) : i]),
        "token": tokens[i],
        "after": "".join(tokens[i + 1 : i + 1 + CONTEXT]),
        "influence_weight": record["influence_weight"][i],
        "future_kl": record["future_kl"][i],
        "advantage": record.get("advantage"),
    }
