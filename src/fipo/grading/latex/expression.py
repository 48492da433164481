"""Formulas as trees: numbers, names, sums, products, powers, roots, functions, finite sums, matrices."""

from dataclasses import dataclass, replace
from fractions import Fraction

from fipo.grading.latex.tokens import Unreadable

NUMBER_WORDS = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9, "ten": 10}


@dataclass(frozen=True)
class Expr:
    """A node: a number or a name, then `value` says which, or what `op` makes of `args`."""

    op: str
    args: tuple["Expr", ...] = ()
    value: Fraction | str | tuple[int, int] | None = None  # of a matrix: its shape


def number(value: int | Fraction) -> Expr:
    return Expr("number", value=Fraction(value))


def quotient(above: Expr, below: Expr) -> Expr:
    return Expr("mul", (above, Expr("inverse", (below,))))


def names_in(expr: Expr) -> frozenset[str]:
    """The unknowns of a formula: its variables, and the values of functions that are not known."""
    if expr.op == "name":
        return frozenset((str(expr.value),))
    inside = frozenset().union(*map(names_in, expr.args))
    if expr.op == "apply":
        return inside | {str(expr)}
    if expr.op in ("sum", "prod"):
        return inside - {str(expr.args[0].value)}
    return inside


def in_base(digits: Expr, base: str) -> Expr:
    """123 in base 8. Raises Unreadable for what is no number in that base."""
    size = int(base) if base.isdigit() and len(base) < 3 else NUMBER_WORDS.get(base.lower(), 0)
    try:
        return number(int(str(digits.value), size)) if size > 1 else Expr("name", value=f"{digits.value}_{base}")
    except ValueError:
        raise Unreadable(f"{digits.value} is no number in base {base}") from None


def in_radians(argument: Expr) -> Expr:
    """An angle with its degrees as what they are: pi / 180."""
    if argument.op == "degree":
        return Expr("mul", (argument.args[0], quotient(Expr("constant", value="pi"), number(180))))
    return replace(argument, args=tuple(map(in_radians, argument.args)))
