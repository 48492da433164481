"""`FIPOTrainingConfig`: TRL's GRPOConfig with the objective's knobs, and without those that the objective replaces."""

import dataclasses
from dataclasses import dataclass, field
from typing import Any

from trl import GRPOConfig

from fipo.objective import ALGORITHMS, KNOBS, Algorithm, algorithm

MINI_BATCHES = 8  # 512 prompts in mini-batches of 64, as published

# Options of TRL that mean nothing under this objective. One that is not at TRL's default is refused, with the reason.
NO_ENTROPY = "FIPOTrainer has no entropy bonus"
OTHER_LOSS = "it belongs to another loss"
REPLACED = {
    "epsilon": "use clip_low",
    "epsilon_high": "use clip_high",
    "delta": "use dual_clip",
    "loss_type": "use preset",
    "importance_sampling_level": "the preset says it: gspo is the one of responses",
    "scale_rewards": "the preset says how advantages are scaled",
    "multi_objective_aggregation": "rewards are weighted and added before the advantages",
    "use_bias_correction_kl": "the KL penalty is GRPO's, without ratios",
    "top_entropy_quantile": NO_ENTROPY,
    "entropy_coef": NO_ENTROPY,
    "use_adaptive_entropy": NO_ENTROPY,
    "entropy_coef_min": NO_ENTROPY,
    "entropy_coef_max": NO_ENTROPY,
    "entropy_coef_delta": NO_ENTROPY,
    "entropy_target": NO_ENTROPY,
    "off_policy_mask_threshold": "the sequence filter is max_dual_clipped_tokens",
    "sapo_temperature_neg": "use tau_neg",
    "sapo_temperature_pos": "use tau_pos",
    "vespo_k_pos": OTHER_LOSS,
    "vespo_lambda_pos": OTHER_LOSS,
    "vespo_k_neg": OTHER_LOSS,
    "vespo_lambda_neg": OTHER_LOSS,
    "vllm_importance_sampling_mode": "the objective weighs tokens, by weights that are truncated",
    "vllm_importance_sampling_clip_min": "the weights are truncated from above alone",
    "disable_dropout": "dropout would fake a change of policy",
}


def _help(text: str) -> dict[str, Any]:
    return {"help": text}


@dataclass
class FIPOTrainingConfig(GRPOConfig):
    """Arguments of `FIPOTrainer`. A knob left at None has the preset's value.

    FIPO weighs tokens by what the policy did since the responses were sampled, so it needs several optimizer steps
    per generation: `mini_batches` of them, times TRL's `num_iterations`. A single one is refused under a preset
    with influence weights, because there they are all exactly 1 and FIPO is DAPO.

    Errors: ValueError, one line with the option, the rule and the value.

    >>> FIPOTrainingConfig("out", preset="release_7b", mini_batches=4, use_cpu=True, bf16=False).steps_per_generation
    4
    """

    preset: str = field(default="release_32b", metadata=_help(f"The algorithm: one of {', '.join(ALGORITHMS)}."))
    half_life: float | None = field(default=None, metadata=_help("Tokens after which a later log-ratio counts half."))
    influence_clip: list[float] | None = field(default=None, metadata=_help("Bounds (low, high) of the weights."))
    safety_threshold: float | None = field(default=None, metadata=_help("Ratio from which the safety rule holds."))
    safety_floor: float | None = field(default=None, metadata=_help("Smallest weight under the safety rule."))
    clip_low: float | None = field(default=None, metadata=_help("The ratio is clipped at 1 - clip_low."))
    clip_high: float | None = field(default=None, metadata=_help("The ratio is clipped at 1 + clip_high."))
    dual_clip: float | None = field(default=None, metadata=_help("Cap of the ratio for negative advantages."))
    max_dual_clipped_tokens: int | str | None = field(
        default=None, metadata=_help('A sequence with more dual-clipped tokens leaves the loss; "off": none does.')
    )
    tau_pos: float | None = field(default=None, metadata=_help("How fast SAPO's gate closes where A > 0."))
    tau_neg: float | None = field(default=None, metadata=_help("The same elsewhere."))
    ratio_cap: float | None = field(default=None, metadata=_help("DPPO counts a larger ratio as this one."))
    surrogate: str | None = field(
        default=None, metadata=_help("A loss of your own in place of the preset's: module:function.")
    )
    mini_batches: int | None = field(
        default=None,
        metadata=_help(
            "Optimizer steps that share a generation batch. It sets steps_per_generation to mini_batches times "
            f"gradient_accumulation_steps. Left out, it follows from that option if it is given, else {MINI_BATCHES}."
        ),
    )
    dynamic_sampling: bool = field(
        default=True,
        metadata=_help("Replace groups of constant accuracy by groups from further generation batches (DAPO)."),
    )
    accuracy_reward: str | None = field(
        default=None, metadata=_help("Name of the reward function that is the accuracy. None: the first one.")
    )
    max_generation_batches: int = field(default=10, metadata=_help("Generation batches at most, the first included."))
    on_short_batch: str = field(
        default="train", metadata=_help('When they did not fill the batch: "train" on what there is, or "stop".')
    )
    # Defaults other than TRL's
    disable_dropout: bool = field(default=True, metadata=_help("Must stay on."))
    use_bias_correction_kl: bool = field(default=False, metadata=_help("Must stay off."))
    vllm_importance_sampling_correction: bool = field(
        default=False,
        metadata=_help(
            "Multiply a token's loss by the trainer's probability over the sampler's, "
            "at most vllm_importance_sampling_clip_max."
        ),
    )
    vllm_importance_sampling_mode: str = field(default="token_truncate", metadata=_help("Must stay so."))

    def __post_init__(self) -> None:
        self._check_choices()
        self._set_steps_per_generation()
        super().__post_init__()
        self._refuse_replaced()
        self._check_mini_batches()

    def algorithm(self) -> Algorithm:
        """The preset with this config's own values in place, TRL's for the KL penalty and importance weights too."""
        cap = self.vllm_importance_sampling_clip_max if self.vllm_importance_sampling_correction else None
        changes = {name: getattr(self, name) for name in KNOBS if getattr(self, name) is not None}
        limit = changes.get("max_dual_clipped_tokens")
        if isinstance(limit, str) and limit.isdigit():  # from a command line it is always a string
            changes["max_dual_clipped_tokens"] = int(limit)
        return algorithm(self.preset, surrogate=self.surrogate, **changes, kl_coef=self.beta, importance_weight_cap=cap)

    def _check_choices(self) -> None:
        if self.on_short_batch not in ("train", "stop"):
            raise ValueError(f'on_short_batch must be "train" or "stop", got {self.on_short_batch!r}')
        for name in ("mini_batches", "max_generation_batches"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise ValueError(f"{name} must be an integer >= 1, got {value!r}")
        if not self.beta >= 0:
            raise ValueError(f"beta must be >= 0, got {self.beta!r}")
        if self.vllm_importance_sampling_correction and not (self.vllm_importance_sampling_clip_max or 0) > 0:
            limit = self.vllm_importance_sampling_clip_max
            raise ValueError(f"vllm_importance_sampling_clip_max must be > 0, got {limit!r}")
        self.algorithm()

    def _set_steps_per_generation(self) -> None:
        """TRL's name for `mini_batches`; either may be given, not both."""
        given = [n for n in ("steps_per_generation", "generation_batch_size") if getattr(self, n) is not None]
        if not given:
            self.steps_per_generation = (self.mini_batches or MINI_BATCHES) * self.gradient_accumulation_steps
        elif self.mini_batches is not None:
            raise ValueError(f"mini_batches must be left out when {given[0]} is given, got {self.mini_batches}")

    def _refuse_replaced(self) -> None:
        defaults = {each.name: each.default for each in dataclasses.fields(self)}
        for name, reason in REPLACED.items():
            if (value := getattr(self, name)) != defaults[name]:
                raise ValueError(f"{name} must be left at {defaults[name]!r}, got {value!r}: {reason}")

    def _check_mini_batches(self) -> None:
        steps, accumulated = self.steps_per_generation, self.gradient_accumulation_steps
        if steps % accumulated:
            raise ValueError(
                f"steps_per_generation must be a multiple of gradient_accumulation_steps {accumulated}, got {steps}: "
                "an optimizer step would span two generation batches"
            )
        self.mini_batches = steps // accumulated
        if self.mini_batches * self.num_iterations == 1 and self.algorithm().config.influence_bounds != (1.0, 1.0):
            raise ValueError(
                f"mini_batches x num_iterations must be > 1 with preset {self.preset!r}, got 1 x 1: with one optimizer "
                'step per generation every influence weight is 1, which is what preset "dapo" says'
            )
