"""What every task gives: a problem with a prompt and the answer that a grader compares with."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A question and what is right.

    >>> Problem(id="7", prompt="1+2=", answer="3", source="mine", metadata={"level": 1}).text
    '1+2='
    """

    id: str
    prompt: str | list[dict[str, str]]  # raw text, or chat messages with role and content
    answer: str
    source: str  # the dataset or task it came from
    metadata: dict[str, Any] = field(default_factory=dict)  # what else its grader needs; JSON values only

    @property
    def text(self) -> str:
        """The question as text: what decides whether two problems are the same."""
        if isinstance(self.prompt, str):
            return self.prompt
        return "\n".join(message["content"] for message in self.prompt)


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A problem as it was loaded."""

    problem: Problem
    where: str  # what a complaint about it names, such as "data.jsonl, line 17"
