"""The metrics of a run as series, one value per training step that has one."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from fipo.doctor.findings import CannotTell
from fipo.telemetry.run_directory import RunDirectory, refuse_what_is_no_step

WINDOW = 10  # steps: single steps of RL are noisy, and the median of ten is steady in the runs that we kept


@dataclass(frozen=True)
class Series:
    """The values of one key, with the steps that have them."""

    key: str
    steps: list[int]
    values: list[float]

    def first(self, count: int = WINDOW) -> float:
        return median(self.values[:count])

    def last(self, count: int = WINDOW) -> float:
        return median(self.values[-count:])

    def trailing(self, count: int = WINDOW) -> "Series":
        """The median of the `count` values up to each step, from the first step that has so many."""
        ends = range(count, len(self.values) + 1)
        return Series(self.key, self.steps[count - 1 :], [median(self.values[end - count : end]) for end in ends])

    def from_step(self, step: int) -> "Series":
        """What there is from `step` on."""
        start = next((i for i, at in enumerate(self.steps) if at >= step), len(self.steps))
        return Series(self.key, self.steps[start:], self.values[start:])

    def since(self, holds: Callable[[float], bool]) -> tuple[int, int] | None:
        """The first and last step of the unbroken stretch up to now in which `holds`; None if it does not hold now."""
        first = None
        for step, value in zip(reversed(self.steps), reversed(self.values), strict=True):
            if not holds(value):
                break
            first = step
        return None if first is None else (first, self.steps[-1])


class History:
    """The training steps and evaluations of a run so far, its recipe, and its recorded rollouts."""

    def __init__(self, run: RunDirectory, lines: Sequence[dict[str, float]]) -> None:
        """Raises UserError for a line that is not of a step."""
        self.run = run
        self.config = run.read_config()
        refuse_what_is_no_step(run.metrics, lines)
        finite = [{key: value for key, value in line.items() if _is_number(value)} for line in lines]
        self.training = [line for line in finite if line["step"] > 0]
        self.evaluations = [line for line in finite if "eval/avg_at_k" in line]

    @property
    def last_step(self) -> int:
        return int(self.training[-1]["step"]) if self.training else 0

    @property
    def planned_steps(self) -> int | None:
        """Those of the recipe; None in a run that was collected from elsewhere."""
        return self.setting("run", "steps")

    @property
    def rewards_are_numbers(self) -> bool:
        """Those of graders, and not +1 and -1 for right and wrong."""
        return any("groups/constant" in line for line in self.training)

    def setting(self, *path: str, default: Any = None) -> Any:
        """A value of config.toml: `setting("rollout", "groups")`."""
        value: Any = self.config
        for name in path:
            value = value.get(name) if isinstance(value, dict) else None
        return default if value is None else value

    def series(self, key: str, *, least: int = 1) -> Series:
        """Raises CannotTell if no step has `key`, or fewer than `least` steps."""
        return self.summed([key], least=least)

    def summed(self, keys: Sequence[str], *, least: int = 1) -> Series:
        """The sum of `keys` at the steps that have all of them. Raises CannotTell like `series`."""
        found = [line for line in self.training if all(key in line for key in keys)]
        if not found and self.training:
            missing = next((key for key in keys if not any(key in line for line in self.training)), keys[0])
            raise CannotTell(f"{missing} is not recorded")
        if len(found) < least:
            raise CannotTell(f"{len(found)} of the {least} steps that it takes")
        return Series(
            " + ".join(keys), [int(line["step"]) for line in found], [sum(line[key] for key in keys) for line in found]
        )

    def success(self, *, least: int = 1) -> Series:
        """Accuracy in training; where only the reward is recorded, that on the same scale, (reward + 1) / 2."""
        if self.rewards_are_numbers and not any(line.get("accuracy/mean") for line in self.training):
            raise CannotTell("the graders give numbers, none of which counts as right")
        if any("accuracy/mean" in line for line in self.training):
            return self.series("accuracy/mean", least=least)
        reward = self.series("reward/mean", least=least)
        return Series("(reward/mean + 1) / 2", reward.steps, [(value + 1) / 2 for value in reward.values])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)
