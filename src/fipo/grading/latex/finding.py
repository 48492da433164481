"""Where in a response the final answer stands."""

import re

from fipo.data.boxed import Box, boxes_in
from fipo.grading.latex.reader import readings_of
from fipo.grading.latex.readings import Written
from fipo.grading.latex.tokens import Unreadable
from fipo.grading.latex.words import OTHER

OPEN, CLOSE = "<answer>", "</answer>"
TAIL = 4000  # characters in which an answer without a tag or box is looked for
PHRASE = re.compile(
    r"\banswer\b(?:\s?\([a-z ]{1,20}\))?[ \t*_`}]{0,8}(?::|=|\bis\b|\bare\b|[*_`:# \t]{0,8}\n)|####"
    "|\u7b54\u6848[\uff1a:\u662f\u4e3a]{1,2}",
    re.IGNORECASE,
)
FORMULA = re.compile(r"\$\$([^$]+)\$\$|\$([^$]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
NUMBER = re.compile(
    r"(?<![\w.])(?:[-+\u2212\u2013]\s?)?[$\u20ac\u00a3]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:(?<=\d)(?!\.\d)|\.\d+)"
    r"(?:[eE][-+]?\d{1,3})?(?:(?:\s\d{1,9})?/\d{1,9}(?![\d/]))?%?"
)
CLAUSE_END = re.compile(r"(?<!\d)\.\s|\.(?=\s+[A-Z])|,?\s(?:since|because|so|which|where|as|for|when|if)\b|;\s|\s\(")
EMPHASIS = re.compile(r"(?<![\w)}])(\*\*|__|`)([^*_`\n]+)\1(?![\w({])")
WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{2,}")
EMPHASISED = re.compile(r"(?<![\w)}])(?:(?:\*\*|__)([^*_`\n]{1,200})(?:\*\*|__)|`([^`\n]{1,200})`)[\s.]*\Z")
MARKS = '*_`#"\u201c\u201d '
BACKWARDS = re.compile(rf"(?:[,;:>!\s]\\(?!\\)|\\\\|~|[\s.,;{MARKS}](?!\\(?!\\)))*")  # the end of an answer, reversed
MOST_BOXES = 20
BETWEEN_BOXES = re.compile(r"[ \t$,;]*(?:and|or|&|\\text\s*\{\s*(?:and|or)\s*\}|\\(?:quad|,|;))?[ \t$,;]*")


def final_answers(response: str) -> list[str]:
    r"""The last answer that is complete, and what else it can be read as; nothing if there is none.

    In an `<answer>` tag, else in a \boxed{}, else after `answer is` or `Answer:`, else the last formula or number. One
    that is cut off is none, and no earlier one counts in its place. Boxes beside each other are one answer, a list;
    otherwise the last one corrects those before it, or all of them are a list.
    """
    if response.rfind(OPEN) > response.rfind(CLOSE):
        return []
    end = response.rfind(CLOSE)
    while end > 0 and (start := response.rfind(OPEN, 0, end)) >= 0:
        if content := response[start + len(OPEN) : end].partition(CLOSE)[0].strip():
            return _of_boxes(content) or [without_marks(content)]
        end = response.rfind(CLOSE, 0, start)
    if OPEN in response or boxes_in(response):
        return _of_boxes(response)
    tail = response[-TAIL:]
    return _after_phrase(tail) or _last_of(tail)


def _of_boxes(response: str) -> list[str]:
    boxes = boxes_in(response)
    if not boxes or boxes[-1].content is None:
        return []
    filled = [box for box in boxes if box.content is not None and box.content.strip(" .,$")]
    if not filled:
        return []
    row = filled[-1:]
    while len(row) < len(filled) and BETWEEN_BOXES.fullmatch(response, filled[-len(row) - 1].end, row[0].start):
        row.insert(0, filled[-len(row) - 1])
    return list(dict.fromkeys((_listed(row), _listed(filled[-MOST_BOXES:]))))


def _listed(boxes: list[Box]) -> str:
    return ", ".join(dict.fromkeys(without_marks(str(box.content)) for box in boxes))


def _after_phrase(text: str) -> list[str]:
    """What the last `the answer is` or `Answer:` is followed by, on its line or the next one."""
    for phrase in reversed(list(PHRASE.finditer(text))):
        line = next((line for line in text[phrase.end() :].splitlines() if line.strip(MARKS + ".$:")), "")
        if line:
            return [_in_line(line)]
    return []


def _in_line(line: str) -> str:
    """A line up to the end of its sentence, or the first formula or number in it, where it is more than that."""
    clause = without_marks(CLAUSE_END.split(line.lstrip(), maxsplit=1)[0])
    formulas, numbers = FORMULA.search(line), NUMBER.search(clause)
    if says_something(clause):
        return clause
    if formulas and not OTHER.search(line, 0, formulas.start()):
        return _inside(formulas)
    said = numbers and "\\" not in clause and not OTHER.search(clause, 0, numbers.start())
    return numbers[0] if numbers and said else clause


def _last_of(text: str) -> list[str]:
    """What is emphasised at the end of a text, its last line if that is a formula, else the last formula or number."""
    last_line = without_marks(text.rstrip().rpartition("\n")[2])
    emphasised = EMPHASISED.search(text)
    candidates = [emphasised[1] or emphasised[2]] if emphasised else []
    for candidate in candidates + ([] if WORD.search(last_line) else [last_line]):
        if says_something(candidate):
            return [without_marks(candidate)]
    found = [(match.end(), match.start(), _inside(match)) for match in FORMULA.finditer(text)]
    found += [(match.end(), match.start(), match[0]) for match in NUMBER.finditer(text)]
    _, start, answer = max(found, default=(0, 0, ""))
    before = CLAUSE_END.split(text[:start].rpartition("\n")[2])[-1]
    return [answer] if found and not OTHER.search(before) else []


def says_something(text: str) -> bool:
    """Whether it is more than words or signs."""
    try:
        return not any(isinstance(reading, Written) for reading in readings_of(text))
    except Unreadable:
        return False


def _inside(formula: re.Match[str]) -> str:
    return next(group for group in formula.groups() if group is not None)


def without_marks(text: str) -> str:
    """Without the marks of Markdown, the quotation marks and the spaces around it, and the punctuation behind it."""
    text = text.lstrip(MARKS + "\t\r\n")
    end = BACKWARDS.match(text[::-1])
    text = text[: len(text) - end.end()] if end else text
    return EMPHASIS.sub(r"\2", text)
