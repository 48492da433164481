"""All rules over one run."""

from collections.abc import Callable
from dataclasses import dataclass

from fipo.doctor.findings import LEVELS, CannotTell, Finding
from fipo.doctor.run import rules_drift, rules_machinery, rules_policy, rules_reward, rules_weights
from fipo.doctor.run.history import History

Rule = Callable[[History], Finding | None]  # raises CannotTell

RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        rules_weights.weights_saturated,
        rules_weights.weights_idle,
        rules_weights.mean_weight_off,
        rules_weights.weights_are_rounding,
        rules_drift.ratio_off,
        rules_drift.no_response_signal,
        rules_drift.spread_off,
        rules_policy.dual_clip_spike,
        rules_policy.length_collapse,
        rules_policy.length_stall,
        rules_policy.entropy_collapse,
        rules_policy.entropy_explosion,
        rules_reward.reward_collapse,
        rules_reward.reward_hacked,
        rules_reward.truncation,
        rules_reward.format_lost,
        rules_reward.dead_groups,
        rules_reward.grader_failures,
        rules_machinery.sampler_gap,
        rules_machinery.skipped_updates,
        rules_machinery.throughput_drop,
    )
}


@dataclass(frozen=True)
class Examination:
    """What each rule said, by its name."""

    findings: dict[str, Finding]  # gravest first
    clear: list[str]  # rules that found nothing
    unchecked: dict[str, str]  # rules that could not be applied, and why

    @property
    def healthy(self) -> bool:
        return all(finding.level == "note" for finding in self.findings.values())

    @property
    def failing(self) -> bool:
        return any(finding.level == "problem" for finding in self.findings.values())


def examine(history: History) -> Examination:
    findings, clear, unchecked = {}, [], {}
    for name, rule in RULES.items():
        try:
            finding = rule(history)
        except CannotTell as reason:
            unchecked[name] = str(reason)
            continue
        if finding is None:
            clear.append(name)
        else:
            findings[name] = finding
    gravest = sorted(findings, key=lambda name: LEVELS.index(findings[name].level))
    return Examination({name: findings[name] for name in gravest}, clear, unchecked)
