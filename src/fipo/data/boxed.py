r"""What stands in the \boxed{} of a text."""

import re
from dataclasses import dataclass

OPENING = r"\\(?:boxed|fbox)(?![a-zA-Z])\s*\{?"
PART = re.compile(rf"(?P<box>{OPENING})|\\.|[{{}}]", re.DOTALL)  # `\{` is no brace
UNBRACED = re.compile(r"[^\s{}$\\]+")  # the 5 of `\boxed 5$`


@dataclass(frozen=True, kw_only=True)
class Box:
    start: int
    end: int
    content: str | None  # None: its braces do not close


def boxes_in(text: str) -> list[Box]:
    r"""Every `\boxed{}`, `\boxed 5` and `\fbox{}` that stands in no other one that closes, in order. Linear in time."""
    found: list[Box] = []
    braces: list[tuple[int, int] | None] = []  # those that are open; of a box its start, and that of its content
    for part in PART.finditer(text):
        written = part[0]
        if part["box"] and not written.endswith("{"):
            unbraced = UNBRACED.match(text, part.end())
            content = unbraced[0].rstrip(".,;") if unbraced else ""
            found.append(Box(start=part.start(), end=part.end() + len(content), content=content))
        elif written.endswith("{") and written != r"\{":
            braces.append((part.start(), part.end()) if part["box"] else None)
        elif written == "}" and braces:
            opened = braces.pop()
            if opened:
                while found and found[-1].start > opened[0]:
                    found.pop()
                found.append(Box(start=opened[0], end=part.end(), content=text[opened[1] : part.start()]))
    found += [Box(start=opened[0], end=len(text), content=None) for opened in braces if opened]
    return sorted(found, key=lambda box: box.start)
