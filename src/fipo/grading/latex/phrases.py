"""Parts of a text that is in tokens: what stands between separators, within brackets, or in words."""

import re
from collections.abc import Callable, Sequence

from fipo.grading.latex.tokens import Token, Unreadable

OPENING, CLOSING = ("(", "[", "{", r"\{"), (")", "]", "}", r"\}")
LEADING = (
    "approx",
    "sim",
    "simeq",
    "therefore",
    "implies",
    "Rightarrow",
    "rightarrow",
    "to",
)  # what an answer may begin with

GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi rho sigma tau "
    "upsilon phi varphi chi psi omega Gamma Delta Theta Lambda Xi Sigma Phi Psi Omega ell"
)
NAMES = {*GREEK.split(), "angle", "triangle", "measuredangle", "overline", "vec", "bar", "hat", "mathbb", "|", "{", "}"}

Tokens = Sequence[Token]


def trimmed(tokens: Tokens) -> Tokens:
    """Without punctuation at its ends, and without braces around it. Raises Unreadable if nothing is left."""
    while tokens:
        first, last = tokens[0], tokens[-1]
        if last.text in (".", ",", ";", ":", "?", "'", "=", "\\\\") and last.kind == "sign":
            tokens = tokens[:-1]
        elif (first.text in (":", "=", ",", ".", "'", "\\\\") and first.kind == "sign") or first.text in LEADING:
            tokens = tokens[1:]
        elif first.text == "{" and closing_of(tokens) == len(tokens) - 1:
            tokens = tokens[1:-1]
        else:
            return tokens
    raise Unreadable("there is nothing in it")


def split(tokens: Tokens, is_separator: Callable[[Token], bool]) -> list[Tokens]:
    """The parts between separators that stand in no brackets."""
    parts: list[list[Token]] = [[]]
    depth = 0
    for token in tokens:
        depth += _step(token)
        if depth == 0 and is_separator(token):
            parts.append([])
        else:
            parts[-1].append(token)
    return list(parts)


def _step(token: Token) -> int:
    if token.kind == "sign":
        return (token.text in OPENING) - (token.text in CLOSING)
    if token.kind == "command":
        return (token.text in ("begin", "lfloor", "lceil")) - (token.text in ("end", "rfloor", "rceil"))
    return 0


def closing_of(tokens: Tokens) -> int:
    """Where the bracket that begins the tokens closes."""
    depth = 0
    for i, token in enumerate(tokens):
        depth += _step(token)
        if depth == 0:
            return i
    return -1


def is_word(token: Token, *words: str) -> bool:
    return token.kind == "word" and token.text in words


def text_of(tokens: Tokens) -> str:
    """Words without their case and punctuation; anything else as it is written."""
    kinds = {token.kind for token in tokens}
    if "word" in kinds and not kinds & {"number", "command"}:
        return words_of(tokens)
    text = "".join(token.text for token in tokens)
    return text.casefold() if "word" in kinds else text


def words_of(tokens: Tokens) -> str:
    return "".join(token.text for token in tokens if token.kind in ("word", "letter")).casefold()


def name_of(tokens: Tokens) -> str | None:
    r"""What may stand before an equals sign as the name of what follows; None for a formula.

    `x`, `x_1`, `f(5)`, `P(X = 3)`, `AB`, `(x, y)`, `Area`, `\angle ABC`, `\frac{dy}{dx}`.
    """
    try:
        tokens = trimmed(tokens)
    except Unreadable:
        return None
    text = "".join(token.text for token in tokens)
    if tokens[0].text == "(" and closing_of(tokens) == len(tokens) - 1:
        named = all(map(name_of, split(tokens[1:-1], lambda token: token.text == ",")))
        return text if named else None
    if re.fullmatch(r"frac\{d[a-z]*\}\{d[a-z]\}", text):
        return text
    called = next((i for i, token in enumerate(tokens) if token.text in ("(", "[", "_")), len(tokens))
    head, rest = tokens[:called], tokens[called:]
    if not head or not all(token.kind in ("letter", "word") or token.text in NAMES for token in head):
        return None
    letters = [token.text for token in head if token.kind == "letter"]
    if len(letters) == len(head) > 1 and not "".join(letters).isupper():
        return None  # a product; but AB is a line
    while rest:
        taken = 1 if rest[0].text in ("_", "'") or rest[0].kind in ("number", "letter") else closing_of(rest) + 1
        if taken < 1:
            return None
        rest = rest[taken:]
    return text
