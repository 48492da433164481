"""What a rule says of a run."""

from dataclasses import dataclass
from typing import Literal

Severity = Literal["problem", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("problem", "warning", "note")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that is wrong with a run, or worth knowing."""

    severity: Severity  # problem: the run is failing; warning: it may be; note: worth knowing, the run is healthy
    steps: tuple[int, int]  # the first and the last training step that show it
    evidence: str  # what was seen, with its numbers, and what it means
    advice: str  # what to try, with the recipe's keys

    @property
    def where(self) -> str:
        first, last = self.steps
        return f"step {first}" if first == last else f"steps {first}-{last}"


class CannotTell(Exception):
    """A rule cannot be applied to this run. The message says why."""
