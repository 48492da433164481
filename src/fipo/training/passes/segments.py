"""Sequences in one row of tokens, where what several have in common stands once.

The row is cut into segments. Each continues its parent, a segment before it, and sees its ancestors and itself: so the
few-shot examples of all prompts are computed once, a group's prompt once, and each response by itself. The gradient is
the same, but for norms that compute in float32 (transformers'): they round a sum once instead of each of its terms.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from fipo.rollout.prompts import common_head

LEAST_SHARED = 16  # tokens in common that are worth a segment of their own: attention is called for each


@dataclass(frozen=True, kw_only=True)
class Segment:
    length: int  # tokens, at least 1
    parent: int | None = None  # the number of the segment that it continues; None = it begins a sequence


@dataclass(frozen=True, kw_only=True)
class Span:
    """Where a segment stands."""

    seen: list[tuple[int, int]]  # (start, end) in the row of its ancestors, the first one first, and of itself
    past: int  # tokens of its ancestors: the position of its first one

    @property
    def start(self) -> int:
        return self.seen[-1][0]

    @property
    def end(self) -> int:
        return self.seen[-1][1]


def spans_of(segments: Sequence[Segment]) -> list[Span]:
    """One for each segment, in the order of the row."""
    spans: list[Span] = []
    starts = accumulate((segment.length for segment in segments), initial=0)
    for segment, start in zip(segments, starts, strict=False):
        before = [] if segment.parent is None else spans[segment.parent].seen
        past = sum(end - begin for begin, end in before)
        spans.append(Span(seen=[*before, (start, start + segment.length)], past=past))
    return spans


@dataclass(frozen=True, kw_only=True)
class Row:
    tokens: list[int]
    segments: list[Segment]
    before: list[list[int]]  # of each sequence: the place of the token before each of its response's


def row_of(sequences: Sequence[tuple[list[int], list[int]]]) -> Row:
    """(prompt, response) after (prompt, response); those with the same prompt should follow each other.

    The head that all prompts share is a segment, if it is long enough, and so is the rest of a long prompt with
    several responses. Another prompt is repeated in front of each response, as one segment with it.
    """
    tokens: list[int] = []
    segments: list[Segment] = []

    def add(content: list[int], parent: int | None) -> int:
        segments.append(Segment(length=len(content), parent=parent))
        tokens.extend(content)
        return len(segments) - 1

    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for i, (prompt, _) in enumerate(sequences):
        by_prompt.setdefault(tuple(prompt), []).append(i)
    shared = _shared(list(by_prompt))
    head = add(list(shared), None) if shared else None
    places: dict[int, list[int]] = {}
    for prompt_tokens, members in by_prompt.items():
        rest, parent, last = list(prompt_tokens[len(shared) :]), head, len(shared) - 1
        if len(members) > 1 and rest and len(prompt_tokens) >= LEAST_SHARED:
            parent, rest = add(rest, head), []
            last = len(tokens) - 1
        for i in members:
            add(rest + sequences[i][1], parent)
            start = len(tokens) - len(sequences[i][1])
            places[i] = [start - 1 if rest else last, *range(start, len(tokens) - 1)]
    return Row(tokens=tokens, segments=segments, before=[places[i] for i in range(len(sequences))])


def _shared(prompts: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The head of several different prompts, if it is long enough."""
    length = common_head(prompts) if len(prompts) > 1 else 0
    return prompts[0][:length] if length >= LEAST_SHARED else ()
