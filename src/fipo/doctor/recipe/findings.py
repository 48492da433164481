"""What the doctor has to say, and how much it matters."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["stop", "warning", "note"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line for the user."""

    level: Level  # stop: the run cannot do what it is for; warning: it probably will not; note: worth knowing
    keys: tuple[str, ...]  # of the recipe
    text: str  # what was found, with the values, and why it matters
    advice: str = ""  # what to try

    def __str__(self) -> str:
        about = f"{', '.join(self.keys)}: " if self.keys else ""
        return f"{self.level}: {about}{self.text}" + (f". Try: {self.advice}" if self.advice else "")


def gravest_first(findings: Sequence[Finding]) -> list[Finding]:
    """Stops, warnings, notes; each in the order in which they were found."""
    levels: list[Level] = ["stop", "warning", "note"]
    return sorted(findings, key=lambda finding: levels.index(finding.level))
