"""Whether a given answer says what the right one says."""

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

from fipo.grading.answers.arithmetic import as_decimal
from fipo.grading.latex.expression import Expr, names_in, number
from fipo.grading.latex.formulas import Formulas
from fipo.grading.latex.limits import TooLarge
from fipo.grading.latex.phrases import words_of
from fipo.grading.latex.reader import readings_of
from fipo.grading.latex.readings import (
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
)
from fipo.grading.latex.tokens import Token, evened_out, tokens_of

ROUNDED_DIGITS = 6  # of a decimal that may stand for what rounds to it
SHOWN_DIGITS = 400  # more stay as they were written
NOISE = Fraction(1, 10**12)  # relative, of computed decimals
VARIABLE = re.compile(r"[A-Za-z](?:_\w+)?'*")
formulas = Formulas()


def same_answer(right: str, given: str) -> bool:
    """Whether `given` says what `right` says, by value. Raises Unreadable if one of them says nothing."""
    rights, readings = readings_of(right), readings_of(given)
    if _same_words(tokens_of(right), tokens_of(given)):
        return True
    formulas.begin()
    try:
        return any(_same(a, b) for a in rights for b in readings)
    except TooLarge:
        return False


def plainly(answer: str) -> str:
    """An answer in a form in which numbers of one value are one text. Raises Unreadable if it says nothing."""
    formulas.begin()
    reading = readings_of(answer)[0]
    if isinstance(reading, Named):
        reading = reading.value
    if isinstance(reading, Quantity) and reading.unit is None:
        try:
            value = formulas.constant(reading.expr)
        except TooLarge:
            value = None
        if isinstance(value, Fraction) and abs(value.numerator) * value.denominator < 10**SHOWN_DIGITS:
            text = as_decimal(value) if reading.ulp is not None else str(value)
            return f"{text}%" if reading.percent else text
    return " ".join(evened_out(answer).split()).strip(" .,;:")


def _same_words(right: Sequence[Token], said: Sequence[Token]) -> bool:
    """Words, whatever their case and punctuation; the letter of a choice, whatever its brackets and what follows."""
    choice = words_of(right)
    if re.fullmatch("[a-j]", choice) and len(right) <= 3 and said[0].kind != "number":
        rest = [token for token in said if token.text not in ("(", "{")][:2]
        if len(said) > 2 and [token.text for token in rest] in ([choice.upper(), mark] for mark in (")", ".", ":")):
            return True
    if not any(token.kind == "word" for token in (*right, *said)):
        return False
    plain = all(token.kind in ("word", "letter", "sign") for token in (*right, *said))
    return plain and words_of(right) == words_of(said)


def _same(a: Reading, b: Reading) -> bool:
    if isinstance(a, Chain) or isinstance(b, Chain):
        ends = [_end_of(one) for one in (a, b)]
        return ends[0] is not None and ends[1] is not None and _same(ends[0], ends[1])
    formulas.spend(1)
    if a == b:
        return True
    for x, y in ((a, b), (b, a)):
        rule = RULES.get((type(x), type(y)))
        if rule is not None:
            return rule(x, y)
    if isinstance(a, Named):
        return _same(a.value, b)
    return isinstance(b, Named) and _same(a, b.value)


def _end_of(reading: Reading) -> Reading | None:
    """What a chain of equal formulas ends in; None if it is not true. Of others what they are."""
    if not isinstance(reading, Chain):
        return reading
    *before, last = reading.parts
    for part in before:
        if isinstance(part, Quantity) and isinstance(last, Quantity):
            unknowns = names_in(part.expr) | names_in(last.expr)
            if not unknowns and not _same_quantity(last, part):
                return None
    return last


def _same_named(a: Named, b: Named) -> bool:
    return not _other_unknown(a, b) and (_same(a.value, b.value) or _same_equation(a, b))


def _other_unknown(a: Named, b: Named) -> bool:
    """x = 5 is not y = 5. But f(x) = 3x is y = 3x."""
    variables = VARIABLE.fullmatch(a.name) and VARIABLE.fullmatch(b.name)
    fixed = all(not isinstance(one.value, Quantity) or not names_in(one.value.expr) for one in (a, b))
    return bool(variables) and fixed and a.name != b.name


def _same_single(listing: Listing, single: Quantity) -> bool:
    """A list that says one thing, however often; a tuple, if the other is a vector."""
    shape = single.expr.value
    if isinstance(shape, tuple) and 1 in shape:
        return _same(listing, Listing(tuple(map(Quantity, single.expr.args)), "()"))
    return listing.bracket != "()" and bool(listing.items) and all(_same(single, item) for item in listing.items)


def _around(complement: Complement) -> Reading:
    """The intervals between the numbers that are left out."""
    items = complement.items.items if isinstance(complement.items, Listing) else (complement.items,)
    values = [(_fraction(formulas.constant(item.expr)), item) for item in items if isinstance(item, Quantity)]
    if len(values) < len(items) or any(value is None for value, _ in values):
        return complement
    ends = [NEGATIVE_INFINITY, *(item for _, item in sorted(values, key=lambda one: one[0] or 0)), Quantity(INFINITY)]
    return Union(tuple(Interval(low, high, "()") for low, high in pairwise(ends)))


def _same_equation(a: Reading, b: Reading) -> bool:
    sides = []
    for one in (a, b):
        if isinstance(one, Equation):
            sides.append(one.expr)
        elif isinstance(one, Named) and isinstance(one.value, Quantity) and VARIABLE.fullmatch(one.name):
            unknown = Expr("name", value=one.name)
            sides.append(Expr("add", (unknown, Expr("neg", (one.value.expr,)))))
    return len(sides) == 2 and formulas.proportional(*sides)


def _same_quantity(a: Quantity, b: Quantity) -> bool:
    scales = [Fraction(1)]
    if a.unit and b.unit:
        if a.unit[0] != b.unit[0]:
            return False
        scales = [b.unit[1] / a.unit[1]]
    if a.percent != b.percent:
        scales.append(Fraction(100) if a.percent else Fraction(1, 100))
    return any(_same_scaled(a, b, scale) for scale in scales)


def _same_scaled(a: Quantity, b: Quantity, scale: Fraction) -> bool:
    expr = b.expr if scale == 1 else Expr("mul", (number(scale), b.expr))
    if formulas.equal(a.expr, expr):
        return True
    if a.ulp is None and b.ulp is None:
        return False
    x, y = _fraction(formulas.constant(a.expr)), _fraction(formulas.constant(expr))
    if x is None or y is None:
        return False
    return (
        abs(x - y) <= NOISE * max(abs(x), abs(y))
        or _stands_for(x, a.ulp, a.digits, y)
        or _stands_for(y, None if b.ulp is None else b.ulp * scale, b.digits, x)
    )


def _stands_for(decimal: Fraction, ulp: Fraction | None, digits: int, exact: Fraction) -> bool:
    """Whether the exact value, rounded or cut off at the last place of the decimal, is the decimal."""
    if ulp is None or digits < ROUNDED_DIGITS or decimal * exact < 0:
        return False
    return abs(exact - decimal) * 2 <= ulp or 0 <= abs(exact) - abs(decimal) < ulp


def _fraction(value: Any) -> Fraction | None:
    """A real number as a Fraction; None for any other value."""
    if value is None or isinstance(value, Fraction):
        return value
    sign_and_size = getattr(value, "man_exp", None)
    if sign_and_size is None or not sign_and_size[0]:
        return None
    mantissa, exponent = sign_and_size
    return Fraction(mantissa) * Fraction(2) ** exponent * (-1 if value < 0 < mantissa else 1)


def _same_listing(a: Listing, b: Listing) -> bool:
    brackets = {a.bracket, b.bracket}
    if ":" in brackets and brackets != {":"}:
        return False
    if brackets == {"()", ""} or (a.ordered or b.ordered):
        if len(brackets) > 1 and ("" not in brackets or brackets & {"[)", "(]"}):
            return False
        if a.bracket or a.ordered or _are_named(a) != _are_named(b):
            return len(a.items) == len(b.items) and all(map(_same, a.items, b.items))
    return _same_items(a.items, b.items)


def _are_named(listing: Listing) -> bool:
    return any(isinstance(item, Named) for item in listing.items)


def _same_items(a: Sequence[Reading], b: Sequence[Reading]) -> bool:
    """In whatever order, and however often one is named."""
    exact = [_exact_values(items) for items in (a, b)]
    if exact[0] is not None and exact[1] is not None:
        return exact[0] == exact[1]
    alike = set(a) & set(b)  # as written, which costs no comparison of each with each
    others = [[item for item in items if item not in alike] for items in (a, b)]
    return all(any(_same(x, y) for y in b) for x in others[0]) and all(any(_same(x, y) for x in a) for y in others[1])


def _exact_values(items: Sequence[Reading]) -> frozenset[Fraction] | None:
    """None if one of them is no rational number, or has a sign of its own behind it."""
    values = []
    for item in items:
        plain = isinstance(item, Quantity) and item.ulp is None and item.unit is None and not item.percent
        value = formulas.constant(item.expr) if isinstance(item, Quantity) and plain else None
        if not isinstance(value, Fraction):
            return None
        values.append(value)
    return frozenset(values)


def _same_interval(a: Interval, b: Interval | Listing) -> bool:
    """`0 < x < 1`, and (0, 1), which is written as a pair is."""
    if isinstance(b, Listing):
        if len(b.items) != 2:
            return False
        b = Interval(*b.items, b.bracket)
    return a.bracket == b.bracket and _same(a.low, b.low) and _same(a.high, b.high)


def _same_inequality(a: Inequality, b: Inequality) -> bool:
    return a.strict == b.strict and formulas.proportional(a.expr, b.expr, positive=True)


# Of which kinds two readings can be the same, in either order; `Named` stands for its value where it is in none.
RULES: dict[tuple[type, type], Callable[[Any, Any], bool]] = {
    (Named, Named): _same_named,
    (Named, Equation): _same_equation,
    (Equation, Equation): _same_equation,
    (Quantity, Quantity): _same_quantity,
    (Listing, Listing): _same_listing,
    (Listing, Quantity): _same_single,
    (Interval, Interval): _same_interval,
    (Interval, Listing): _same_interval,
    (Union, Union): lambda a, b: _same_items(a.parts, b.parts),
    (Complement, Complement): lambda a, b: _same(a.items, b.items),
    (Complement, Union): lambda a, b: _same(_around(a), b),
    (Inequality, Inequality): _same_inequality,
}
