"""What a step generated, dropped groups included, and when to stop looking for groups with contrast.

verl 0.9.1 counts neither, and reads `filter_groups.max_num_gen_batches` nowhere: where no group has contrast, because
of a template that does not match, say, it would generate for ever.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from fipo.errors import RunStopped
from fipo.grading.outcomes import OUTCOMES
from fipo.integrations.shared import FailurePolicy

log = logging.getLogger("fipo")

LIMIT = "algorithm.filter_groups.max_num_gen_batches"
Info = Mapping[str, Any]  # of a response: what the reward function and the reward manager of verl say of it


@dataclass(frozen=True, kw_only=True)
class Limits:
    """When a step has generated enough."""

    wanted: int  # groups that it trains on
    batch: int  # prompts of a generation batch
    batches: int  # generation batches at most; 0: no limit


@dataclass
class Generated:
    """The groups of a step so far."""

    limits: Limits
    failures: FailurePolicy
    groups: int = 0
    all_correct: int = 0
    all_wrong: int = 0
    responses: list[Info] = field(default_factory=list)

    def add(self, infos: Sequence[Info]) -> bool:
        """One more group. True: it must not be trained on, because a grade failed.

        Raises RuntimeError for more failed grades than `max_failures`.
        """
        self.groups += 1
        self.responses += infos
        accuracies = {info["acc"] for info in infos if "acc" in info}
        if len(accuracies) == 1:
            right = accuracies.pop() > 0
            self.all_correct += right
            self.all_wrong += not right
        failed = sum(int(info.get("grade/failed", 0)) for info in infos)
        self.failures.count(failed)
        return failed > 0 and self.failures.drops_groups

    def check(self, step: int, kept: int, example: Callable[[], str], *, before: int) -> None:
        """Warn of each generation batch that did not fill the step. before: `groups` when this was last looked at.

        Raises RunStopped at the limit, with the shares of groups without contrast and a response.
        """
        limits = self.limits
        if kept >= limits.wanted or self.groups // limits.batch == before // limits.batch:
            return
        found = (
            f"step {step}: {self.groups} groups generated, {kept} of {limits.wanted} kept; "
            f"{self.all_wrong / self.groups:.0%} all wrong, {self.all_correct / self.groups:.0%} all right"
        )
        if not limits.batches or self.groups < limits.batches * limits.batch:
            log.warning(found)
            return
        raise RunStopped(
            f"{found}: no more than {LIMIT} {limits.batches} generation batches of {limits.batch} prompts; {example()}"
        )


def metrics_of(parts: Sequence[Generated], kept: int) -> dict[str, float]:
    """A step that generated all of these, by the names of docs/metrics.md; what nothing is known of is absent."""
    responses = [info for part in parts for info in part.responses]

    def all_of(key: str) -> list[float]:
        return [float(info[key]) for info in responses if key in info]

    rewards = [info["score"] + info.get("overlong_reward", 0.0) for info in responses if "score" in info]
    outcomes = [info["outcome"] for info in responses if "outcome" in info]
    means = {
        "reward/mean": rewards,
        "reward/overlong": all_of("overlong_reward"),
        "accuracy/mean": all_of("acc"),
        **{f"grade/{name}": [outcome == name for outcome in outcomes] for name in OUTCOMES},
    }
    failed = all_of("grade/failed")
    return {
        "groups/generated": sum(part.groups for part in parts),
        "groups/kept": kept,
        "groups/all_correct": sum(part.all_correct for part in parts),
        "groups/all_wrong": sum(part.all_wrong for part in parts),
        **{name: fmean(map(float, found)) for name, found in means.items() if found},
        **({"grade/failed": sum(failed)} if failed else {}),
    }
