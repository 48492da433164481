"""One number or formula, with its unit."""

from dataclasses import replace
from fractions import Fraction

from fipo.grading.latex.expression import Expr
from fipo.grading.latex.expression import number as integer
from fipo.grading.latex.parser import CIRCULAR, parse
from fipo.grading.latex.phrases import Tokens, trimmed
from fipo.grading.latex.readings import Listing, Quantity
from fipo.grading.latex.tokens import Unreadable
from fipo.grading.latex.units import unit_of
from fipo.grading.latex.words import BEHIND, NEGATIVE, OTHER, scaled

IN_UNITS = {"/", "*", "^", "{", "}", "(", ")", "-", ".", "frac"}
LETTER_UNITS = set("msghlL")  # `5 m`, but not `5m`
PERCENT = {"%", "pct", "percent"}


def quantity_of(tokens: Tokens) -> Quantity | Listing:
    r"""A number or formula, and where a part of it has the sign \pm, two. Raises Unreadable if it is none."""
    words, tokens = _without_introduction(tokens)
    number, measure = _measured(tokens)
    scale, measure = scaled(measure)
    unit = unit_of(measure)
    if OTHER.search(words) or (unit is None and BEHIND.intersection(map(str.lower, measure))):
        raise Unreadable("the words say something else than the number")
    expr = parse(number)
    if scale != 1:
        expr = Expr("mul", (integer(scale), expr))
    if NEGATIVE.search(words):
        expr = Expr("neg", (expr,))
    ulp, digits = _last_place(number)
    percent = " ".join(measure) in PERCENT
    ulp = None if ulp is None else ulp * scale
    found = tuple(Quantity(one, percent=percent, unit=unit, ulp=ulp, digits=digits) for one in _both_signs(expr))
    return found[0] if len(found) == 1 else Listing(found)


def _without_introduction(tokens: Tokens) -> tuple[str, Tokens]:
    """(words, what follows them): `The answer is 5` says 5; but size(5) does not."""
    last = -1
    for i, token in enumerate(tokens):
        if token.kind not in ("word", "letter") and token.text not in (",", ":", "'", "-", "."):
            break
        if token.kind == "word":
            last = i
    rest = tokens[last + 1 :]
    called = bool(rest) and rest[0].text == "(" and not rest[0].gap
    if not rest or called:
        return "", tokens
    return "".join(" " * token.gap + token.text for token in tokens[: last + 1]), trimmed(rest)


def _measured(tokens: Tokens) -> tuple[Tokens, list[str]]:
    """(the number, what stands behind it as its unit): of `12 cm^2`, (12, [cm, ^, 2]). Any words are one."""
    texts = [token.text for token in tokens]
    if len(tokens) > 2 and texts[-1] in ("C", "F", "K") and texts[-2] == "degree":
        tokens, texts = tokens[:-1], texts[:-1]
    if len(tokens) > 1 and (texts[-1] == "%" or (texts[-1] == "degree" and not CIRCULAR.intersection(texts))):
        return tokens[:-1], texts[-1:]
    start = next((i for i, token in enumerate(tokens) if i and token.kind == "word"), None)
    if start is None:
        start = _letters_of_unit(tokens)
    if start is None:
        return tokens, []
    if start > 2 and texts[start - 2 : start] == ["frac", "{"]:
        start -= 2
    if start > 1 and texts[start - 1] == "(" and texts[-1] == ")":  # 5 (cm)
        start -= 1
    if texts[:start].count("{") != texts[:start].count("}"):
        return tokens, []
    for i in range(start, len(tokens)):
        is_power = tokens[i].kind == "number" and texts[i - 1] in ("^", "{", "-")
        is_letter = tokens[i].kind == "letter" and texts[i] in LETTER_UNITS
        if not (tokens[i].kind == "word" or texts[i] in IN_UNITS or is_power or is_letter):
            return tokens, []
    return tokens[:start], " ".join(texts[start:]).replace("} {", "/").replace("frac", "").split()


def _letters_of_unit(tokens: Tokens) -> int | None:
    """Where the `m/s` of `5 m/s` begins: with a space behind a number, and nothing else behind that."""
    start = next((i for i, token in enumerate(tokens) if token.kind == "letter"), 0)
    if not start or not tokens[start].gap or tokens[start - 1].kind != "number":
        return None
    return start if unit_of([token.text for token in tokens[start:]]) else None


def _both_signs(expr: Expr) -> list[Expr]:
    r"""With + and with - for \pm, or the formula as it is."""
    found = [_with_sign(expr, plus) for plus in (True, False)]
    return found[:1] if found[0] == found[1] else found


def _with_sign(expr: Expr, plus: bool) -> Expr:
    if expr.op in ("pm", "mp"):
        inner = _with_sign(expr.args[0], plus)
        return inner if (expr.op == "pm") == plus else Expr("neg", (inner,))
    return replace(expr, args=tuple(_with_sign(argument, plus) for argument in expr.args))


def _last_place(tokens: Tokens) -> tuple[Fraction | None, int]:
    """(one in the last place of a decimal, its digits that say something); (None, 0) for anything else."""
    texts = [token.text for token in tokens if token.text not in ("+", "{", "}")]
    texts = texts[1:] if texts[:1] == ["-"] else texts
    mantissa, _, power = texts[0].lower().partition("e") if texts else ("", "", "")
    if texts[1:3] == ["*", "10"] and "".join(texts[3:4]) == "^" and not power:
        power = "".join(texts[4:])
    elif len(texts) > 1:
        return None, 0
    whole, point, decimals = mantissa.partition(".")
    if not point or not (whole + decimals).isdigit() or not (power or "0").lstrip("-").isdigit() or len(power) > 4:
        return None, 0
    return Fraction(10) ** (int(power or 0) - len(decimals)), len((whole + decimals).lstrip("0"))
