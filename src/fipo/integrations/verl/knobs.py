"""What a job of verl says of FIPO: the keys, verl's names beside ours, and the objective that they give together.

Nothing here imports verl: `config.py` makes verl's own options of it, and the launcher reads recipes with it on
machines that have no verl.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from fipo.objective import KNOBS, Algorithm, algorithm
from fipo.objective.surrogates import Clipped

LOSS_NAME = "future_kl"
ACTOR = "actor_rollout_ref.actor"
POLICY_LOSS = f"{ACTOR}.policy_loss"
TARGET = "fipo.integrations.verl.config.FIPOPolicyLossConfig"
CLIPS = {"clip_low": "clip_ratio_low", "clip_high": "clip_ratio_high", "dual_clip": "clip_ratio_c"}  # verl's, in ACTOR
FROM_PRESET = "preset"  # "as the preset has it"; null is a value of its own
DENOMINATORS = ("verl", "kept")
MOST_SEQUENCES = 10**6

ORIGINALS = {  # keys of the released code's policy_loss, and what stands for them here
    "decay_rate": "half_life",
    "future_kl_clip_ratio": "influence_clip: [1 - it, 1 + it], or [1.0, 1 + it] under future_kl_clip_high_only",
    "future_kl_clip_high_only": "influence_clip, whose lower bound is 1.0 then",
    "safety_thresh": "safety_threshold",
    "chunk_size": "nothing: the result does not depend on it",
    **dict.fromkeys(
        ("future_kl_start", "future_kl_window", "future_kl_average", "future_kl_filter_extreme"),
        "nothing: the released code reads it nowhere",
    ),
}


def original(key: str) -> str | None:
    """What the released code's key of this name is here, as a line; None if it is none of its keys."""
    found = ORIGINALS.get(key)
    return found and f"{POLICY_LOSS}.{key} of the released code is here {found}"


def check_mode(mode: str | None, allowed: bool) -> None:
    """Raise ValueError for an asynchronous trainer that nobody has asked for."""
    if mode and not mode.removeprefix("fipo_").startswith(("sync", "rehearsal")) and not allowed:
        raise ValueError(
            f"trainer.v1.trainer_mode must be sync, got {mode}: an asynchronous trainer takes the responses that end "
            f"first, which are the short ones; {POLICY_LOSS}.allow_async=True asks for it all the same"
        )


@dataclass
class Knobs:
    """FIPO's keys of `actor_rollout_ref.actor.policy_loss`: a preset, and what to change in it.

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
    tau_pos: Any = FROM_PRESET
    tau_neg: Any = FROM_PRESET
    ratio_cap: Any = FROM_PRESET
    surrogate: str | None = None  # module:function, in place of the preset's; importable in every worker
    # what token-mean divides by where the filter dropped sequences: "verl", all loss tokens of the mini-batch;
    # "kept", those of the sequences that stayed (docs/verl.md), which needs one micro-batch per mini-batch
    denominator: str = "verl"
    credit_sequences: int = 0  # of each mini-batch of the first rank; needs fipo.integrations.verl.main
    credit_dir: str | None = None
    allow_async: bool = False  # verl's asynchronous trainers

    def __post_init__(self) -> None:
        for name in ("preset", "surrogate", "credit_dir"):
            value = getattr(self, name)
            if not isinstance(value, str) and (value is not None or name == "preset"):
                raise ValueError(f"{POLICY_LOSS}.{name} must be a text, got {value!r:.80}")
        if not isinstance(self.credit_sequences, int) or not self.credit_sequences <= MOST_SEQUENCES:
            raise ValueError(
                f"{POLICY_LOSS}.credit_sequences must be a whole number <= {MOST_SEQUENCES}, "
                f"got {self.credit_sequences!r:.80}"
            )
        if self.denominator not in DENOMINATORS:
            raise ValueError(f"{POLICY_LOSS}.denominator must be verl or kept, got {self.denominator!r}")
        if self.credit_sequences < 0 or (self.credit_sequences > 0) != (self.credit_dir is not None):
            raise ValueError(
                f"{POLICY_LOSS}: credit_sequences > 0 and credit_dir go together, "
                f"got {self.credit_sequences} and {self.credit_dir!r}"
            )
        self.algorithm()

    def algorithm(self) -> Algorithm:
        """The preset with these keys' own values in place; how it averages is verl's loss_agg_mode."""
        given = {name: getattr(self, name) for name in KNOBS}
        changes = {name: _plain(value) for name, value in given.items() if value != FROM_PRESET}
        try:
            return algorithm(self.preset, surrogate=self.surrogate, **changes)
        except (ValueError, TypeError) as error:  # null where there is no such value
            raise ValueError(f"{POLICY_LOSS}: {error}") from None

    def check_clips(self, actor: Mapping[str, Any]) -> None:
        """Raise ValueError where verl's actor clips otherwise than the objective does."""
        chosen = self.algorithm()
        clips = chosen.settings()
        if not isinstance(chosen.surrogate, Clipped):
            del clips["dual_clip"]  # the bound of the FutureKL's mask alone
        for name, theirs in CLIPS.items():
            found = actor.get(theirs)
            if name in clips and found != clips[name]:
                raise ValueError(
                    f"{ACTOR}.{theirs} must be {clips[name]:g}, the {name} of its policy_loss (preset {self.preset}), "
                    f"got {found!r}"
                )


KEYS = tuple(field.name for field in fields(Knobs))


def _plain(value: Any) -> Any:
    """OmegaConf's lists as tuples."""
    return tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else value
