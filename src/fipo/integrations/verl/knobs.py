"""What a job of verl says of FIPO: the keys, verl's names beside ours, and the objective that they give together.

Nothing here imports verl: `config.py` makes verl's own options of it, and the launcher reads recipes with it on
machines that have no verl.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from fipo.objective import KNOBS, Algorithm, algorithm

LOSS_NAME = "future_kl"
ACTOR = "actor_rollout_ref.actor"
POLICY_LOSS = f"{ACTOR}.policy_loss"
TARGET = "fipo.integrations.verl.config.FIPOPolicyLossConfig"
CLIPS = {"clip_low": "clip_ratio_low", "clip_high": "clip_ratio_high", "dual_clip": "clip_ratio_c"}  # verl's, in ACTOR
FROM_PRESET = "preset"  # "as the preset has it"; null is a value of its own
DENOMINATORS = ("verl", "kept")


@dataclass
class Knobs:
    """FIPO's keys of `actor_rollout_ref.actor.policy_loss`: an algorithm by its name, and what to change in it.

    How the loss is averaged is verl's `actor.loss_agg_mode`, whatever the preset has.

    clip_low, clip_high and dual_clip are verl's `actor.clip_ratio_low`, `_high` and `_c`, which other parts of verl
    read: they are set there, and refused unless they are what the preset (or a change here) says.

    Errors: ValueError, one line with the key, the rule and the value.
    """

    preset: str = "release_32b"
    half_life: Any = FROM_PRESET
    influence_clip: Any = FROM_PRESET
    safety_threshold: Any = FROM_PRESET
    safety_floor: Any = FROM_PRESET
    clip_low: Any = FROM_PRESET
    clip_high: Any = FROM_PRESET
    dual_clip: Any = FROM_PRESET
    max_dual_clipped_tokens: Any = FROM_PRESET
    tau_pos: Any = FROM_PRESET  # this and the next two of other surrogates: docs/objective.md
    tau_neg: Any = FROM_PRESET
    ratio_cap: Any = FROM_PRESET
    # what token-mean divides by where the filter dropped sequences: "verl", all loss tokens of the mini-batch;
    # "kept", those of the sequences that stayed (docs/verl.md), which needs one micro-batch per mini-batch
    denominator: str = "verl"
    credit_sequences: int = 0  # of each mini-batch of the first rank; needs fipo.integrations.verl.main
    credit_dir: str | None = None

    def __post_init__(self) -> None:
        if self.denominator not in DENOMINATORS:
            raise ValueError(f"{POLICY_LOSS}.denominator must be verl or kept, got {self.denominator!r}")
        if self.credit_sequences < 0 or (self.credit_sequences > 0) != (self.credit_dir is not None):
            raise ValueError(
                f"{POLICY_LOSS}: credit_sequences > 0 and credit_dir go together, "
                f"got {self.credit_sequences} and {self.credit_dir!r}"
            )
        self.algorithm()

    def algorithm(self) -> Algorithm:
        """The preset with the changes in it."""
        given = {name: getattr(self, name) for name in KNOBS}
        changes = {name: _plain(value) for name, value in given.items() if value != FROM_PRESET}
        try:
            return algorithm(self.preset, **changes)
        except ValueError as error:
            raise ValueError(f"{POLICY_LOSS}: {error}") from None

    def check_clips(self, actor: Mapping[str, Any]) -> None:
        """Raise ValueError where verl's actor clips otherwise than the objective."""
        settings = self.algorithm().settings()
        for name, theirs in CLIPS.items():
            if name not in settings:  # another surrogate, which does not clip there
                continue
            ours, found = settings[name], actor.get(theirs)
            if found != ours:
                raise ValueError(
                    f"{ACTOR}.{theirs} must be {ours:g}, the {name} of its policy_loss (preset {self.preset}), "
                    f"got {found!r}"
                )


KEYS = tuple(field.name for field in fields(Knobs))


def _plain(value: Any) -> Any:
    """OmegaConf's lists as tuples."""
    return value if value is None or isinstance(value, str | int | float) else tuple(value)
