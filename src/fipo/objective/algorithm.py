"""The algorithms by name: each is a row of values, never a second implementation."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any

from fipo.objective.config import Aggregation, FIPOConfig, check_aggregation, check_number


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A named way to train: the loss, how it is averaged, and how rewards become advantages."""

    config: FIPOConfig
    aggregation: Aggregation = "token-mean"
    scale_by_std: bool = True  # divide the group's advantages by its standard deviation
    kl_coef: float = 0.0  # weight of the KL penalty, see kl_penalty; 0: none
    importance_weight_cap: float | None = None  # see truncated_importance_weights; None: no weights

    def __post_init__(self) -> None:
        check_aggregation(self.aggregation)
        check_number("kl_coef", self.kl_coef, ">= 0 and finite", lambda v: 0 <= v < math.inf)
        if self.importance_weight_cap is not None:
            check_number("importance_weight_cap", self.importance_weight_cap, "> 0", lambda v: v > 0)


ALGORITHMS: dict[str, Algorithm] = {
    "release_32b": Algorithm(config=FIPOConfig.release_32b()),
    "release_7b": Algorithm(config=FIPOConfig.release_7b()),
    "paper_32b": Algorithm(config=FIPOConfig.paper_32b()),
    "paper_7b": Algorithm(config=FIPOConfig.paper_7b()),
    "dapo": Algorithm(config=FIPOConfig.dapo()),
    "grpo": Algorithm(config=FIPOConfig.grpo(), aggregation="seq-mean-token-mean"),
    # Dr. GRPO (2503.20783): no length and no difficulty bias
    "dr_grpo": Algorithm(config=FIPOConfig.grpo(), aggregation="seq-mean-token-sum-norm", scale_by_std=False),
}

# What "off" means for the values that can be switched off.
OFF: dict[str, float | None] = {
    "influence_clip": None,  # the released (0, 10)
    "safety_threshold": math.inf,
    "dual_clip": math.inf,
    "max_dual_clipped_tokens": None,
    "kl_coef": 0.0,
    "importance_weight_cap": None,
}
_CONFIG = {field.name for field in fields(FIPOConfig)}
_OWN = {field.name for field in fields(Algorithm)} - {"config"}


def algorithm(preset: str, **changes: Any) -> Algorithm:
    """The algorithm of this name with some of its values changed.

    changes: fields of `FIPOConfig` and of `Algorithm` by their names. The text "off" switches a value of `OFF` off.
    Errors: ValueError, one line, for a preset or a value that does not exist or is out of its range.
    """
    if preset not in ALGORITHMS:
        raise ValueError(f"preset must be one of {', '.join(ALGORITHMS)}, got {preset!r}")
    unknown = sorted(changes.keys() - _CONFIG - _OWN)
    if unknown:
        raise ValueError(f"a preset's values are {', '.join(sorted(_CONFIG | _OWN))}, got {unknown[0]!r}")
    switched = {name: OFF[name] for name, value in changes.items() if name in OFF and _is_off(value)}
    changes = {**changes, **switched}
    chosen = ALGORITHMS[preset]
    config = replace(chosen.config, **{name: value for name, value in changes.items() if name in _CONFIG})
    return replace(chosen, config=config, **{name: value for name, value in changes.items() if name in _OWN})


def _is_off(value: object) -> bool:
    return isinstance(value, str) and value == "off"
