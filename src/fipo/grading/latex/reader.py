r"""From a text to what it says."""

from collections.abc import Sequence
from functools import lru_cache

from fipo.grading.latex.expression import Expr, names_in
from fipo.grading.latex.phrases import Tokens, closing_of, is_word, name_of, split, text_of, trimmed, words_of
from fipo.grading.latex.quantity import quantity_of
from fipo.grading.latex.readings import (
    DOTS,
    INFINITY,
    NEGATIVE_INFINITY,
    Chain,
    Complement,
    Equation,
    Inequality,
    Interval,
    Listing,
    Named,
    Quantity,
    Reading,
    Union,
    Written,
)
from fipo.grading.latex.tokens import Token, Unreadable, tokens_of

RELATIONS = ("=", "<", ">", "<=", ">=", "!=")
APPROXIMATE = ("approx", "sim", "simeq")
FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}
EVERYTHING = ("allrealnumbers", "allreals", "allrealx", "realnumbers")


@lru_cache(maxsize=1024)
def readings_of(text: str) -> tuple[Reading, ...]:
    """What a text says; more than one where it can be read in two ways. Raises Unreadable if it says nothing."""
    found: list[Reading] = []
    for grouped in (True, False) if "," in text else (True,):
        try:
            new = _alternatives(trimmed(tokens_of(text, grouped)))
        except RecursionError:
            raise Unreadable("a formula must not be nested so deeply") from None
        found += [reading for reading in new if reading not in found]
    return tuple(found)


def _alternatives(tokens: Tokens) -> list[Reading]:
    """One, or for `5 \\sqrt 2 = 7.07`, with a sign of rounding, the formula and the decimal."""
    exact, *rounded = split(tokens, lambda token: token.kind == "command" and token.text in APPROXIMATE)
    if not rounded or not exact or name_of(exact):
        return [read(rounded[-1] if rounded else exact)]
    return [read(exact)] + [read(side) for side in rounded if any("." in token.text for token in side)]


def read(tokens: Tokens) -> Reading:
    """Several answers with commas, `and` or `or` between them, or one."""
    tokens = trimmed(tokens)
    alternatives = [part for part in split(tokens, lambda token: is_word(token, "or")) if part]
    if len(alternatives) > 1:
        sets = [read_one(part) for part in alternatives]
        if all(isinstance(one, Interval | Union) for one in sets):
            return union(sets)
    parts = split(tokens, lambda token: token.text in (",", ";") or is_word(token, "and", "or"))
    items = [part for part in parts if part]
    return _joined([read_one(item) for item in items]) if len(items) > 1 else read_one(tokens)


def read_one(tokens: Tokens) -> Reading:
    """One answer. Raises Unreadable only if there is nothing."""
    return _read_one(tuple(trimmed(tokens)))


@lru_cache(
    maxsize=4096
)  # what stands in brackets is read for several readings of these: else brackets in brackets double
def _read_one(tokens: tuple[Token, ...]) -> Reading:
    if [token.text for token in tokens] == ["ldots"]:
        return DOTS
    for reader in (_membership, _relation, _combination, _bracketed, _ratio, quantity_of):
        try:
            found = reader(tokens)
        except Unreadable:
            continue
        if found is not None:
            return found
    return Written(text_of(tokens))


def _joined(items: list[Reading]) -> Reading:
    """`x = 1, x = 2` and `x = 1, 2` are one unknown with two values."""
    names = {item.name for item in items if isinstance(item, Named)}
    first = items[0]
    if len(names) == 1 and isinstance(first, Named):
        values = tuple(item.value if isinstance(item, Named) else item for item in items)
        return Named(first.name, Listing(values))
    return Listing(tuple(items))


def union(parts: Sequence[Reading]) -> Reading:
    """The union of sets of numbers; single numbers become one set."""
    flat = [inner for part in parts for inner in (part.parts if isinstance(part, Union) else (part,))]
    points = tuple(item for part in flat if isinstance(part, Listing) and part.bracket == "{}" for item in part.items)
    others = tuple(part for part in flat if not (isinstance(part, Listing) and part.bracket == "{}"))
    if not others:
        return Listing(points, "{}")
    return Union((*others, Listing(points, "{}")) if points else others)


def _membership(tokens: Tokens) -> Reading | None:
    r"""`x \in S` says S."""
    sides = split(tokens, lambda token: token.kind == "command" and token.text == "in")
    return read(sides[1]) if len(sides) == 2 and name_of(sides[0]) else None


def _relation(tokens: Tokens) -> Reading | None:
    signs: list[str] = []

    def is_relation(token: Token) -> bool:
        if token.kind == "sign" and token.text in RELATIONS:
            signs.append(token.text)
            return True
        return False

    sides = split(tokens, is_relation)
    if len(sides) == 1 or not all(sides):
        return None
    if set(signs) == {"="}:
        return _equality(sides)
    names = [name_of(side) for side in sides]
    if signs == ["!="] and names[0]:
        return Complement(read(sides[1]))
    if len(sides) == 3 and names[1] and signs[0][0] == signs[1][0] in "<>":
        return _interval(read_one(sides[0]), signs[0], signs[1], read_one(sides[2]))
    if len(sides) == 2 and signs[0] in FLIPPED:
        return _inequality(sides, signs[0], names)
    return None


def _equality(sides: list[Tokens]) -> Reading:
    if len(sides) == 2 and name_of(sides[1]) and not name_of(sides[0]):
        sides = sides[::-1]
    name = name_of(sides[0])
    if name:
        values = [read_one(side) for side in sides[1:]]
        return Named(name, values[0] if len(values) == 1 else Chain(tuple(values)))
    parts = [quantity_of(side) for side in sides]
    unknowns = frozenset().union(*(names_in(part.expr) for part in parts if isinstance(part, Quantity)))
    if not all(isinstance(part, Quantity) for part in parts):
        raise Unreadable("an equation must be one of formulas")
    if not unknowns:
        return Chain(tuple(parts))
    if len(parts) > 2:
        raise Unreadable("an equation must have two sides")
    return Equation(difference(*parts))


def difference(a: Reading, b: Reading) -> Expr:
    """a - b. Raises Unreadable for what is no formula."""
    if not (isinstance(a, Quantity) and isinstance(b, Quantity)):
        raise Unreadable("an equation must be one of formulas")
    return Expr("add", (a.expr, Expr("neg", (b.expr,))))


def _inequality(sides: list[Tokens], sign: str, names: list[str | None]) -> Reading:
    left, right = (quantity_of(side) for side in sides)
    if isinstance(right, Quantity) and names[0] and not names_in(right.expr):
        return _half_line(sign, right)
    if isinstance(left, Quantity) and names[1] and not names_in(left.expr):
        return _half_line(FLIPPED[sign], left)
    expr = difference(left, right) if sign[0] == "<" else difference(right, left)
    return Inequality(expr, strict=len(sign) == 1)


def _half_line(sign: str, end: Reading) -> Interval:
    if sign[0] == "<":
        return _interval(NEGATIVE_INFINITY, "<", sign, end)
    return _interval(end, "<" + sign[1:], "<", Quantity(INFINITY))


def _interval(left: Reading, first: str, second: str, right: Reading) -> Interval:
    if first[0] == ">":
        left, first, second, right = right, FLIPPED[second], FLIPPED[first], left
    return Interval(left, right, ("(" if first == "<" else "[") + (")" if second == "<" else "]"))


def _combination(tokens: Tokens) -> Reading | None:
    parts = split(tokens, lambda token: token.kind == "command" and token.text == "cup")
    if len(parts) > 1:
        return union([read_one(part) for part in parts])
    parts = split(tokens, lambda token: token.kind == "command" and token.text == "setminus")
    if len(parts) == 2 and text_of(parts[0]) == "mathbb{R}":
        return Complement(read(parts[1]))
    return None


def _bracketed(tokens: Tokens) -> Reading | None:
    if [token.text for token in tokens] == ["emptyset"]:
        return Listing((), "{}")
    if words_of(tokens) in EVERYTHING or text_of(tokens) == "mathbb{R}":
        return Interval(NEGATIVE_INFINITY, Quantity(INFINITY), "()")
    tokens = _turned(tokens)
    first, last = tokens[0].text, tokens[-1].text
    if tokens[0].kind != "sign" or first not in ("(", "[", r"\{") or closing_of(tokens) != len(tokens) - 1:
        return None
    inside = tokens[1:-1]
    if first == r"\{":
        described = split(inside, lambda token: token.text in ("|", ":"))
        if len(described) == 2 and name_of(described[0]):
            return read(described[1])
    items = tuple(read_one(part) for part in split(inside, lambda token: token.text in (",", ";")) if part)
    if first == "(" and len(items) < 2:
        return read(inside) if last == ")" and items and isinstance(items[0], Listing | Interval | Named) else None
    return Listing(items, "{}" if first == r"\{" else first + last)


def _turned(tokens: Tokens) -> Tokens:
    """The interval ]0, 1[ as (0, 1)."""
    if len(tokens) < 3 or tokens[0].text not in "[]" or tokens[-1].text not in "[]":
        return tokens
    first = tokens[0]._replace(text="(") if tokens[0].text == "]" else tokens[0]
    last = tokens[-1]._replace(text=")") if tokens[-1].text == "[" else tokens[-1]
    return (first, *tokens[1:-1], last)


def _ratio(tokens: Tokens) -> Reading | None:
    """`3:4`, and the time of day 11:30."""
    parts = split(tokens, lambda token: token.kind == "sign" and token.text == ":")
    if len(parts) == 1 or not all(parts) or any(token.kind == "word" for token in parts[0]):
        return None
    return Listing(tuple(read_one(part) for part in parts), ":")
