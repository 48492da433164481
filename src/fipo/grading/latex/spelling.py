"""One spelling for what is written in several ways: characters, spaces, sizes, separators of thousands, ordinals."""

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache

CHARACTERS = {
    **dict.fromkeys("\u2212\u2013\u2014\u2012\u2015\u2010\u2011\ufe63", "-"),
    **dict.fromkeys("\u00b7\u2219\u22c5\u2022\u2217", r"\cdot "),
    **dict.fromkeys("\u2215\u2044\u00f7", "/"),
    **dict.fromkeys("\u2264\u2a7d\u2266", "<="),
    **dict.fromkeys("\u2265\u2a7e\u2267", ">="),
    **dict.fromkeys("\u20ac\u00a3\u00a5\u20b9\u20bd\u20a9", r"\$"),
    **dict.fromkeys("\u2009\u202f\u2005\u2006\u2008\u200a", r"\,"),
    **dict.fromkeys("\u2032\u2019\u00b4", "'"),
    **dict.fromkeys("\u3001\u060c", ","),
    "\u3002": ".",
    "\u00d7": r"\times ",
    "\u2260": "!=",
    "\u2248": r"\approx ",
    "\u221e": r"\infty ",
    "\u221a": r"\sqrt ",
    "\u221b": r"\sqrt[3]",
    "\u00b1": r"\pm ",
    "\u2213": r"\mp ",
    "\u2205": r"\emptyset ",
    "\u222a": r"\cup ",
    "\u2229": r"\cap ",
    "\u2208": r"\in ",
    "\u2216": r"\setminus ",
    "\u00b0": r"\degree ",
    "\u2211": r"\sum ",
    "\u220f": r"\prod ",
    "\u211d": r"\mathbb{R}",
    "\u2124": r"\mathbb{Z}",
    "\u230a": r"\lfloor ",
    "\u230b": r"\rfloor ",
    "\u2308": r"\lceil ",
    "\u2309": r"\rceil ",
    "\u2026": r"\ldots ",
    "\u22ef": r"\ldots ",
}
TEXT = r"\\(?:text|textrm|textbf|textit|textnormal|textsuperscript|mbox|mathrm|mathit|mathbf|operatorname)"
ORDINAL = r"(?:st|nd|rd|th)"
MINUTES = r"(?:'|\^?\s*\{?\s*\\prime\s*\}?)"  # one of them; seconds have two
REWRITTEN: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [  # in this order
    (r"\\(?:textcolor|colorbox|color)\s*(?:\[\w+\])?\s*\{[^{}]*\}", " "),
    (r"\\(?:[hv]?phantom|tag\*?|label)\s*\{[^{}]*\}", " "),
    (r"\(\s*(?:approx\w*\.?|rounded[\w. ]*)\s*\)", " "),
    (r"(?<![a-zA-Z\\])US\s?(?=\\*\$\s?\d)|\\(?:pounds|euro|yen|textdollar|texteuro|textsterling)(?![a-zA-Z])", " "),
    (r"\\mathbb\s+([a-zA-Z])(?![a-zA-Z])", r"\\mathbb{\1}"),
    (r"\\+\$", " "),  # a dollar sign, also in a text that was escaped twice
    (r"(?<!\\)\\[()\[\]]|\$", " "),  # the ends of a formula
    (r"(?<=\d)(?:\{,\}|,\\!)\s*(?=\d{3}(?!\d))|\\!", ""),
    (r"\\(?:left|right)\s*\.", " "),
    (r"\\(?:left|right|middle|[bB]igg?[lrm]?)(?![a-zA-Z])", " "),
    (
        r"(?<![\d.])\d{1,3}(?:(?:\\[,;: ]|~|\\thinspace(?![a-zA-Z]))\s*\d{3})+(?!\d)",
        lambda m: re.sub(r"\D", "", m[0]),
    ),  # 10\,080
    (r"(?<![\d.,/])\d{1,3}(?: \d{3})+(?![\d/])", lambda m: m[0].replace(" ", "")),  # 10 080
    (r"(?<!\\)\\[,;:>! ]|~|\\(?:quad|qquad|enspace|thinspace)(?![a-zA-Z])|\\hspace\*?\{[^{}]*\}", " "),
    (r"(?<!\\)\\([%#&_])", r"\1"),
    (r"\^\s*\{\s*\\circ\s*[CF]?\s*\}|\^\s*\\circ(?![a-zA-Z])", r"\\degree "),
    (rf"(\d+)\s*\\degree\s*(\d+){MINUTES}(?:\s*(\d+){MINUTES}{{2}})?", lambda m: _in_degrees(*m.groups())),
    (
        rf"(?<=\d)\s?(?:\^\s*\{{\s*{TEXT}\s*\{{{ORDINAL}\}}\s*\}}|\^\s*\{{{ORDINAL}\}}|\^?\s*{TEXT}\s*\{{{ORDINAL}\}})",
        "",
    ),
    (rf"(?<=\d){ORDINAL}(?![a-zA-Z])", ""),
]
PATTERNS = [(re.compile(pattern), replacement) for pattern, replacement in REWRITTEN]


def evened_out(text: str) -> str:
    """The text in ASCII where that can be, without sizes and spaces that mean nothing."""
    if not text.isascii():
        text = re.sub(r"\}[\^_]\{(?=[-+\dn])", "", "".join(map(_ascii, text)))
    for pattern, replacement in PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def _in_degrees(degrees: str, minutes: str, seconds: str | None) -> str:
    """22 degrees and 30 minutes are 22 + 30/60 degrees."""
    return rf"({degrees} + {minutes}/60 + {seconds or 0}/3600)\degree "


@lru_cache(maxsize=1024)
def _ascii(character: str) -> str:
    if character in CHARACTERS or character.isascii():
        return CHARACTERS.get(character, character)
    name = unicodedata.name(character, "")
    if name.startswith("GREEK SMALL LETTER ") and name.count(" ") == 3:
        return f"\\{name.rpartition(' ')[2].lower()} "
    if unicodedata.category(character) == "Cf":
        return ""  # it is not seen
    kind, _, codes = unicodedata.decomposition(character).partition(" ")
    plain = unicodedata.normalize("NFKC", character)
    match kind:
        case "<super>":
            return f"^{{{plain}}}"
        case "<sub>":
            return f"_{{{plain}}}"
        case "<fraction>":
            above, below = (chr(int(code, 16)) for code in (codes.split()[0], codes.split()[-1]))
            return f"\\frac{{{above}}}{{{below}}}"
    return plain
