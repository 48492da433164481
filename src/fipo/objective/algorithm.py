"""The algorithms by name: each is a row of values, never a second implementation."""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any

from fipo.objective.config import (
    Aggregation,
    FIPOConfig,
    MaskLevel,
    check_aggregation,
    check_band,
    check_mask_level,
    check_number,
)
from fipo.objective.surrogates import SURROGATES, Clipped, Surrogate
from fipo.objective.surrogates.custom import Custom, LossFunction, imported


@dataclass(frozen=True, kw_only=True)
class Algorithm:
    """A named way to train: the loss, how it is averaged, and how rewards become advantages.

    Errors: ValueError with the rule and the value, at construction (also through `dataclasses.replace`).
    It has no tensors; `policy_loss` takes it beside those of shape [B, T].

    >>> Algorithm(config=FIPOConfig.release_32b(), aggregation="seq-mean-token-mean").settings()["half_life"]
    32.0
    """

    config: FIPOConfig  # the influence weights; and the clips, which the surrogate `clipped` alone has there
    surrogate: Surrogate = field(default_factory=Clipped)
    aggregation: Aggregation = "token-mean"
    scale_by_std: bool = True  # divide the group's advantages by its standard deviation
    kl_coef: float = 0.0  # weight of the KL penalty, see kl_penalty; 0: none
    entropy_coef: float = 0.0  # weight of the entropy bonus; 0: none
    importance_weight_cap: float | None = None  # see truncated_importance_weights; None: no weights
    importance_mask: tuple[float, float] | None = None  # see importance_mask; None: no mask
    importance_mask_level: MaskLevel = "token"

    def __post_init__(self) -> None:
        check_aggregation(self.aggregation)
        check_number("kl_coef", self.kl_coef, ">= 0 and finite", lambda v: 0 <= v < math.inf)
        check_number("entropy_coef", self.entropy_coef, ">= 0 and finite", lambda v: 0 <= v < math.inf)
        if self.importance_weight_cap is not None:
            check_number("importance_weight_cap", self.importance_weight_cap, "> 0", lambda v: v > 0)
        if self.importance_mask is not None:
            object.__setattr__(self, "importance_mask", check_band("importance_mask", self.importance_mask))
        check_mask_level(self.importance_mask_level)
        limit = self.config.max_dual_clipped_tokens
        if limit is not None and not isinstance(self.surrogate, Clipped):
            raise ValueError(
                f'max_dual_clipped_tokens must be "off" under the surrogate {self.surrogate.name}, which has no dual '
                f"clip, got {limit!r}"
            )

    def settings(self) -> dict[str, Any]:
        """Every knob of the loss by its name, those left out that the surrogate does not read. None: off."""
        return _settings(self.config, self.surrogate)

    def notes(self) -> list[str]:
        """One line for each legal combination that may not do what its reader thinks; [] mostly."""
        return self.config.notes(dual_clip=isinstance(self.surrogate, Clipped))


# The fields of FIPOConfig that are of the surrogate `clipped`. Its dual_clip is also the bound of the FutureKL's mask.
OF_CLIPPED = ("clip_low", "clip_high", "max_dual_clipped_tokens")

ALGORITHMS: dict[str, Algorithm] = {
    "release_32b": Algorithm(config=FIPOConfig.release_32b()),
    "release_7b": Algorithm(config=FIPOConfig.release_7b()),
    "paper_32b": Algorithm(config=FIPOConfig.paper_32b()),
    "paper_7b": Algorithm(config=FIPOConfig.paper_7b()),
    "dapo": Algorithm(config=FIPOConfig.dapo()),
    "grpo": Algorithm(config=FIPOConfig.grpo(), aggregation="seq-mean-token-mean"),
    # Dr. GRPO (2503.20783): no length and no difficulty bias
    "dr_grpo": Algorithm(config=FIPOConfig.grpo(), aggregation="seq-mean-token-sum-norm", scale_by_std=False),
    # Other surrogates, without FIPO's weights and with those of the released 32B recipe
    **{
        f"{prefix}{one.name}": Algorithm(config=config, surrogate=one(), aggregation=one.aggregation)
        for prefix, config in (
            ("", FIPOConfig.dapo()),
            ("fipo_", replace(FIPOConfig.release_32b(), max_dual_clipped_tokens=None)),
        )
        for one in SURROGATES
    },
}

# What "off" means for the values that can be switched off.
OFF: dict[str, float | None] = {
    "influence_clip": None,  # the released (0, 10)
    "safety_threshold": math.inf,
    "dual_clip": math.inf,
    "max_dual_clipped_tokens": None,
    "kl_coef": 0.0,
    "entropy_coef": 0.0,
    "importance_weight_cap": None,
    "importance_mask": None,
}
_OWN = {one.name for one in fields(Algorithm)} - {"config", "surrogate"}

# Every knob that a preset's loss can have, over all presets.
_HOLDERS: tuple[type[FIPOConfig | Surrogate], ...] = (FIPOConfig, *SURROGATES)
KNOBS = tuple(dict.fromkeys(knob.name for holder in _HOLDERS for knob in fields(holder)))


def algorithm(preset: str, *, surrogate: Surrogate | LossFunction | str | None = None, **changes: Any) -> Algorithm:
    """The algorithm of this name with some of its values changed.

    surrogate: in place of the preset's; a function, or the text "module:function", is wrapped, see `Custom`.
    changes: knobs of the loss and fields of `Algorithm` by their names. The text "off" switches a value of `OFF` off.
    Errors: ValueError, one line, for a preset or a value that does not exist or is out of its range.
    It has no tensors; `policy_loss` takes it beside those of shape [B, T].

    >>> algorithm("gspo", clip_low=3e-4, clip_high=4e-4).aggregation
    'seq-mean-token-mean'
    """
    if preset not in ALGORITHMS:
        raise ValueError(f"preset must be one of {', '.join(ALGORITHMS)}, got {preset!r}")
    chosen = ALGORITHMS[preset]
    token_loss = chosen.surrogate if surrogate is None else _wrapped(surrogate)
    known = {*_settings(chosen.config, token_loss), "max_dual_clipped_tokens", *_OWN}
    if unknown := sorted(changes.keys() - known):
        raise ValueError(f"{unknown[0]} is no value of preset {preset}, which has {', '.join(sorted(known))}")
    rest: dict[str, Any] = {name: OFF[name] if _is_off(name, value) else value for name, value in changes.items()}
    knobs = {name: rest.pop(name) for name in _knobs(token_loss) if name in rest}
    own = {name: rest.pop(name) for name in _OWN if name in rest}
    return replace(chosen, config=replace(chosen.config, **rest), surrogate=replace(token_loss, **knobs), **own)


def _wrapped(surrogate: Surrogate | LossFunction | str) -> Surrogate:
    if isinstance(surrogate, Surrogate):
        return surrogate
    return Custom(function=imported(surrogate) if isinstance(surrogate, str) else surrogate)


def _settings(config: FIPOConfig, surrogate: Surrogate) -> dict[str, Any]:
    unread = () if isinstance(surrogate, Clipped | Custom) else OF_CLIPPED
    shared = {one.name: getattr(config, one.name) for one in fields(config) if one.name not in unread}
    return shared | _knobs(surrogate)


def _knobs(surrogate: Surrogate) -> dict[str, Any]:
    """The surrogate's own knobs."""
    if isinstance(surrogate, Custom):
        return {}
    return {one.name: getattr(surrogate, one.name) for one in fields(surrogate)}


def _is_off(name: str, value: object) -> bool:
    return name in OFF and isinstance(value, str) and value == "off"
