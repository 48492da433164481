"""The knobs of the loss: `FIPOConfig`, and what its values must be."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

Aggregation = Literal[
    "token-mean",
    "seq-mean-token-mean",
    "seq-mean-token-sum",
    "seq-mean-token-sum-norm",
]
AGGREGATIONS: tuple[str, ...] = get_args(Aggregation)
MaskLevel = Literal["token", "sequence"]

MAX_LOG_RATIO = 20.0  # e^20 is already far outside every clip; keeps exp finite
MAX_FLOAT32 = (2 - 2**-23) * 2.0**127  # what a number of the loss may be: it meets float32 tensors
UNCLIPPED_BOUNDS = (0.0, 10.0)  # what the released code does where it says "no clip"


def check_number(name: str, value: object, rule: str, holds: Callable[[float], bool]) -> None:
    """Raise `ValueError("{name} must be {rule}, got {value}")` unless value is a number for which it holds.

    Integers are numbers; bool, str, NaN and what is finite but too large for float32 are not.
    """
    if not isinstance(value, int | float) or isinstance(value, bool) or value != value:
        raise ValueError(f"{name} must be a number, got {value!r}")
    if MAX_FLOAT32 < abs(value) < math.inf:
        raise ValueError(f"{name} must be a number that float32 can hold, got {value!r}")
    if not holds(value):
        raise ValueError(f"{name} must be {rule}, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class FIPOConfig:
    """The knobs of `policy_loss`. The defaults are the released 32B recipe; the presets are class methods.

    Errors: ValueError with the rule and the value, at construction (also through `dataclasses.replace`).
    Source: FIPO (arXiv 2603.19835, Eq. 3-8, App. B) and its released training code; clip_low and clip_high
    from DAPO (2503.14476); dual_clip from 1912.09729.

    It has no tensors; what each value does is said in the shapes of `policy_loss`, [B, T].

    >>> FIPOConfig.release_7b().influence_clip
    (0.8, 1.2)
    >>> FIPOConfig(half_life=-3)
    Traceback (most recent call last):
    ValueError: half_life must be > 0 tokens, got -3
    """

    # tau: after this many tokens the weight of a later log-ratio has halved; inf: no decay
    half_life: float = 32.0
    # (low, high) bounds of the influence weight f; None: (0, 10), as released
    influence_clip: tuple[float, float] | None = (1.0, 1.2)
    # tokens with advantage < 0 and ratio above this get f in [safety_floor, 1]; inf: off
    safety_threshold: float = 10.0
    safety_floor: float = 0.8
    # the PPO clip of the ratio: [1 - clip_low, 1 + clip_high]
    clip_low: float = 0.2
    clip_high: float = 0.28
    # c: ratio cap where the advantage is negative; tokens above it also leave the future KL; inf: off
    dual_clip: float = 10.0
    # a sequence with more dual-clipped tokens than this leaves the loss; None: off
    max_dual_clipped_tokens: int | None = 1

    def __post_init__(self) -> None:
        check_number("half_life", self.half_life, "> 0 tokens", lambda v: v > 0)
        check_number("safety_threshold", self.safety_threshold, "> 0", lambda v: v > 0)
        check_number("safety_floor", self.safety_floor, "in [0, 1]", lambda v: 0 <= v <= 1)
        check_number("clip_low", self.clip_low, "in [0, 1]", lambda v: 0 <= v <= 1)
        check_number("clip_high", self.clip_high, ">= 0", lambda v: v >= 0)
        check_number("dual_clip", self.dual_clip, "> 1", lambda v: v > 1)
        if self.influence_clip is not None:
            object.__setattr__(self, "influence_clip", check_band("influence_clip", self.influence_clip))
        limit = self.max_dual_clipped_tokens
        if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 0):
            raise ValueError(f"max_dual_clipped_tokens must be None or an integer >= 0, got {limit!r}")

    @classmethod
    def release_32b(cls) -> "FIPOConfig":
        """The released recipe for 32B: weights in (1, 1.2), which only ever push harder."""
        return cls()

    @classmethod
    def release_7b(cls) -> "FIPOConfig":
        """The released recipe for 7B: weights in (0.8, 1.2), safety from a ratio of 3."""
        return cls(influence_clip=(0.8, 1.2), safety_threshold=3.0)

    @classmethod
    def paper_32b(cls) -> "FIPOConfig":
        """The 32B recipe as the paper's text has it: f = 1 in the safety region, no sequence filter."""
        return cls(safety_floor=1.0, max_dual_clipped_tokens=None)

    @classmethod
    def paper_7b(cls) -> "FIPOConfig":
        """The 7B recipe as the paper's text has it: f = 1 in the safety region, no sequence filter."""
        return cls(influence_clip=(0.8, 1.2), safety_threshold=3.0, safety_floor=1.0, max_dual_clipped_tokens=None)

    @classmethod
    def dapo(cls) -> "FIPOConfig":
        """DAPO (2503.14476): clip-higher and the dual clip, every influence weight 1."""
        return cls(influence_clip=(1.0, 1.0), max_dual_clipped_tokens=None)

    @classmethod
    def grpo(cls) -> "FIPOConfig":
        """GRPO (2402.03300) without its KL penalty: the symmetric clip alone."""
        return cls(influence_clip=(1.0, 1.0), clip_high=0.2, dual_clip=math.inf, max_dual_clipped_tokens=None)

    @property
    def influence_bounds(self) -> tuple[float, float]:
        """(low, high) of the influence weight, with the released meaning of None filled in."""
        return UNCLIPPED_BOUNDS if self.influence_clip is None else self.influence_clip

    def notes(self, *, dual_clip: bool = True) -> list[str]:
        """One line for each legal combination that may not do what its reader thinks; [] mostly.

        dual_clip: whether the surrogate has one.
        """
        low, high = self.influence_bounds
        notes = []
        if dual_clip and self.safety_threshold >= self.dual_clip and (low < self.safety_floor or high > 1):
            notes.append(
                f"safety_threshold {self.safety_threshold:g} >= dual_clip {self.dual_clip:g}: the safety "
                "rule changes no gradient, because the dual clip has already stopped those tokens"
            )
        if low >= 1 and high > 1:
            notes.append(
                f"influence_clip ({low:g}, {high:g}) is one-sided: the mean weight is above 1 even on noise, "
                "which acts as a higher learning rate (see fipo/influence_weight/mean)"
            )
        return notes


def check_band(name: str, band: object) -> tuple[float, float]:
    """A pair as (low, high); ValueError with the rule for anything else. A list will do, because TOML has no tuples."""
    rule = f"{name} must be None or (low, high) with 0 <= low <= high and 0 < high < inf"
    if not isinstance(band, tuple | list) or len(band) != 2:
        raise ValueError(f"{rule}, got {band!r}")
    low, high = band
    check_number(f"{name} low", low, ">= 0", lambda v: v >= 0)
    check_number(f"{name} high", high, "> 0 and finite", lambda v: 0 < v < math.inf)
    if low > high:
        raise ValueError(f"{rule}, got {band!r}")
    return (low, high)


def check_aggregation(aggregation: str) -> None:
    """Raise a ValueError that lists the four aggregations unless this is one of them."""
    if aggregation not in AGGREGATIONS:
        raise ValueError(f"aggregation must be one of {', '.join(AGGREGATIONS)}, got {aggregation!r}")


def check_mask_level(level: str) -> None:
    """Raise a ValueError that lists the levels unless this is one of them."""
    if level not in get_args(MaskLevel):
        raise ValueError(f"importance_mask_level must be one of {', '.join(get_args(MaskLevel))}, got {level!r}")
