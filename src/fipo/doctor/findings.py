"""What the doctor has to say, of a recipe or of a run, and how much it matters."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["problem", "warning", "note"]
LEVELS: tuple[Level, ...] = ("problem", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    level   problem: the run cannot do, or does not do, what it is for; warning: it probably will not, or may not;
            note: worth knowing
    """

    level: Level
    keys: tuple[str, ...] = ()  # of the recipe that it is about
    steps: tuple[int, int] | None = None  # of a run: the first and the last training step that show it
    text: str  # what was found, with its numbers, and what it means
    advice: str = ""  # what to try, with the recipe's keys

    @property
    def where(self) -> str:
        """`rollout.groups, update.mini_batches` or `steps 3-7`; "" if it is about the whole."""
        if self.steps is None:
            return ", ".join(self.keys)
        first, last = self.steps
        return f"step {first}" if first == last else f"steps {first}-{last}"


class CannotTell(Exception):
    """A rule cannot be applied to this run. The message says why."""


def gravest_first(findings: Sequence[Finding]) -> list[Finding]:
    """Problems, warnings, notes; each in the order in which they were found."""
    return sorted(findings, key=lambda finding: LEVELS.index(finding.level))


def counted(findings: Iterable[Finding]) -> str:
    """`1 problem, 2 notes`; "" for none."""
    levels = [finding.level for finding in findings]
    return ", ".join(f"{n} {level}{'s' * (n > 1)}" for level in LEVELS if (n := levels.count(level)))
