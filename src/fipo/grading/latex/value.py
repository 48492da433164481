"""What a formula comes to: exactly where it is rational, else to hundreds of bits.

The work is counted, and so are the digits of every number, so that what is too large is known before it is computed.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from mpmath.ctx_mp import MPContext

from fipo.grading.latex.expression import Expr, names_in
from fipo.grading.latex.limits import MOST_BITS, MOST_TERMS, Budget, TooLarge, Undefined

LARGEST = {  # arguments of functions that take long, or grow, beyond them
    **dict.fromkeys(("exp", "sinh", "cosh", "tanh"), 2**14),
    **dict.fromkeys(("gamma", "binomial"), 2**13),
}
ELEMENTARY = {"exp", "sin", "cos", "tan", "cot", "sec", "csc", "asin", "acos", "atan", "sinh", "cosh", "tanh"}

Value = Any  # a Fraction, a number of MPContext, or a Matrix
At = Mapping[str, Fraction]


@dataclass(frozen=True)
class Matrix:
    entries: tuple[Value, ...]
    shape: tuple[int, int]


class Calculator:
    """Values at one precision. Its methods raise TooLarge and Undefined."""

    def __init__(self, bits: int) -> None:
        self.mp = MPContext()
        self.mp.prec = bits
        self.budget = Budget()
        self._operations: dict[str, Callable[..., Value]] = {
            "add": self._add,
            "mul": self._mul,
            "neg": lambda value: self._mul(Fraction(-1), value),
            "inverse": self._inverse,
            "degree": lambda value: value,
            "percent": lambda value: self._mul(value, Fraction(1, 100)),
            "ln": self._log,
            "log": self._log,
            "lg": lambda value: self._log(value, Fraction(10)),
            "abs": lambda value: self._of_one(abs, value),
            "sgn": lambda value: Fraction(int(self.real(value) > 0) - int(self.real(value) < 0)),
            "floor": self._floor,
            "ceil": lambda value: -self._floor(self._mul(Fraction(-1), value)),
            "factorial": self._factorial,
            "factorial2": self._double_factorial,
            "binom": self._binomial,
            "permutations": self._permutations,
            "gcd": lambda *values: Fraction(math.gcd(*map(_whole, values))),
            "lcm": lambda *values: self._checked(Fraction(math.lcm(*map(_whole, values)))),
            "max": lambda *values: max(values, key=self.real),
            "min": lambda *values: min(values, key=self.real),
        }

    def value(self, expr: Expr, at: At) -> Value:
        """`at`: the values of names."""
        self.budget.spend(1)
        match expr.op:
            case "number":
                return expr.value
            case "name" | "apply":
                (name,) = names_in(expr) if expr.op == "name" else (str(expr),)
                if name not in at:
                    raise Undefined
                return at[name]
            case "constant":
                return +{"e": self.mp.e, "pi": self.mp.pi, "infty": self.mp.inf, "i": self.mp.mpc(0, 1)}[
                    str(expr.value)
                ]
            case "sum" | "prod":
                return self._series(expr, at)
        values = [self.value(argument, at) for argument in expr.args]
        if expr.op == "pow":
            return self._power(*values, of_reals=_is_literal(expr.args[1]))
        if expr.op == "matrix" and isinstance(expr.value, tuple):
            return Matrix(tuple(values), expr.value)
        if expr.op in ELEMENTARY:
            return self._called(expr.op, *values)
        if expr.op not in self._operations:
            raise Undefined
        return self._operations[expr.op](*values)

    def real(self, value: Value) -> Any:
        """The same, if it is real."""
        if isinstance(value, Matrix | self.mp.mpc):
            raise Undefined
        return self.floating(value)

    def floating(self, value: Value) -> Any:
        """The value as a number of `mp`."""
        if isinstance(value, Matrix):
            raise Undefined
        if isinstance(value, Fraction):
            self.budget.spend(1 + value.numerator.bit_length() // 4000)
            return self.mp.mpf(value.numerator) / value.denominator
        return value

    def _checked(self, value: Value) -> Value:
        """The value, unless it has too many digits; what has next to no imaginary part is real."""
        if isinstance(value, Fraction):
            bits = value.numerator.bit_length() + value.denominator.bit_length()
            self.budget.spend(bits // 2000)
            if bits > MOST_BITS:
                raise TooLarge
            return value
        self.budget.spend(2)
        if self.mp.isnan(value):
            raise Undefined
        if isinstance(value, self.mp.mpc):
            return value.real if abs(value.imag) <= abs(value.real) * self._tiny else value
        if value and not self.mp.isinf(value) and abs(self.mp.mag(value)) > MOST_BITS:
            raise TooLarge
        return value

    @property
    def _tiny(self) -> Any:
        return self.mp.ldexp(1, -self.mp.prec * 2 // 3)

    def _of_one(self, function: Callable[[Any], Any], value: Value) -> Value:
        return self._checked(function(value if isinstance(value, Fraction) else self.floating(value)))

    def _of_two(self, function: Callable[[Any, Any], Any], a: Value, b: Value) -> Value:
        if not (isinstance(a, Fraction) and isinstance(b, Fraction)):
            a, b = self.floating(a), self.floating(b)
        return self._checked(function(a, b))

    def _add(self, *terms: Value) -> Value:
        if isinstance(terms[0], Matrix):
            if any(not isinstance(term, Matrix) or term.shape != terms[0].shape for term in terms):
                raise Undefined
            columns = zip(*(term.entries for term in terms), strict=True)
            return Matrix(tuple(self._add(*column) for column in columns), terms[0].shape)
        total = terms[0]
        for term in terms[1:]:
            total = self._of_two(lambda a, b: a + b, total, term)
        return total

    def _mul(self, *factors: Value) -> Value:
        """At most one of them is a matrix."""
        matrices = [factor for factor in factors if isinstance(factor, Matrix)]
        product: Value = Fraction(1)
        for factor in factors:
            if not isinstance(factor, Matrix):
                product = self._of_two(lambda a, b: a * b, product, factor)
        if not matrices:
            return product
        if len(matrices) > 1:
            raise Undefined
        return Matrix(tuple(self._mul(product, entry) for entry in matrices[0].entries), matrices[0].shape)

    def _inverse(self, value: Value) -> Value:
        if value == 0:
            raise Undefined
        return self._of_one(lambda a: 1 / a, value)

    def _power(self, base: Value, exponent: Value, *, of_reals: bool) -> Value:
        """`of_reals`: an odd root of a negative number is negative, as in school, where else it is complex."""
        if isinstance(base, Fraction) and isinstance(exponent, Fraction):
            exact = self._exact_power(base, exponent) if of_reals or base >= 0 or exponent.denominator == 1 else None
            if exact is not None:
                return exact
        if base == 0:
            if self.real(exponent) <= 0:
                raise Undefined
            return Fraction(0)
        if of_reals and exponent.denominator % 2 and not isinstance(base, Matrix | self.mp.mpc) and base < 0:
            size = self._power(-base, exponent, of_reals=True)
            return -size if exponent.numerator % 2 else size
        base, exponent = self.floating(base), self.floating(exponent)
        self.budget.spend(30)
        if abs(exponent * self.mp.log(base)) > MOST_BITS:
            raise TooLarge
        return self._checked(self.mp.power(base, exponent))

    def _exact_power(self, base: Fraction, exponent: Fraction) -> Fraction | None:
        """None if it is not rational."""
        root, power = exponent.denominator, exponent.numerator
        if root > 1:
            above, below = _root(base.numerator, root), _root(base.denominator, root)
            if above is None or below is None:
                return None
            base = Fraction(above, below)
        if base == 0 and power < 0:
            raise Undefined
        size = max(base.numerator.bit_length(), base.denominator.bit_length())
        if abs(base) == 1:
            power %= 2
        elif abs(power) * (size - 1) > MOST_BITS:
            raise TooLarge
        return Fraction(self._checked(base**power))

    def _log(self, value: Value, base: Value = None) -> Value:
        if value in (0, None) or (base is not None and base in (0, 1)):
            raise Undefined
        self.budget.spend(20)
        above = self.mp.log(self.floating(value))
        return self._checked(above if base is None else above / self.mp.log(self.floating(base)))

    def _called(self, name: str, *values: Value) -> Value:
        """A function of MPContext."""
        arguments = [self.floating(value) for value in values]
        if any(abs(argument) > LARGEST.get(name, 2**200) for argument in arguments):
            raise TooLarge
        self.budget.spend(60 if name in ("gamma", "binomial") else 20)
        try:
            found = self._checked(getattr(self.mp, name)(*arguments))
        except (ValueError, ZeroDivisionError, OverflowError, TypeError):
            raise Undefined from None
        if name in ("tan", "cot", "sec", "csc") and found and self.mp.mag(found) > self.mp.prec // 2:
            raise Undefined  # at a pole
        return found

    def _floor(self, value: Value) -> Value:
        if isinstance(value, Fraction):
            return Fraction(math.floor(value))
        value = self.real(value)
        if self.mp.isinf(value) or self.mp.mag(value) > self.mp.prec // 2:
            raise Undefined
        nearest = self.mp.nint(value)
        return Fraction(int(nearest if abs(value - nearest) < self._tiny else self.mp.floor(value)))

    def _factorial(self, value: Value) -> Value:
        if not isinstance(value, Fraction) or value.denominator > 1:
            return self._called("gamma", self._add(value, Fraction(1)))
        if value < 0:
            raise Undefined
        if value > 3500:
            raise TooLarge
        return self._checked(Fraction(math.factorial(int(value))))

    def _double_factorial(self, value: Value) -> Value:
        whole = _whole(value)
        if whole < 0:
            raise Undefined
        if whole > 6000:
            raise TooLarge
        return self._checked(Fraction(math.prod(range(whole, 0, -2))))

    def _binomial(self, n: Value, k: Value) -> Value:
        if all(isinstance(value, Fraction) and value.denominator == 1 for value in (n, k)) and n >= 0:
            if n.numerator.bit_length() * min(k, n - k) > MOST_BITS:
                raise TooLarge
            return self._checked(Fraction(math.comb(int(n), int(k)) if k >= 0 else 0))
        return self._called("binomial", n, k)

    def _permutations(self, n: Value, k: Value) -> Value:
        n, k = _whole(n), _whole(k)
        if n < 0 or k < 0:
            raise Undefined
        if n.bit_length() * k > MOST_BITS:
            raise TooLarge
        return Fraction(math.perm(n, k))

    def _series(self, expr: Expr, at: At) -> Value:
        index, *bounds, body = expr.args
        first, last = (_whole(self.value(bound, at)) for bound in bounds)
        if last - first >= MOST_TERMS:
            raise TooLarge
        join, total = (self._add, Fraction(0)) if expr.op == "sum" else (self._mul, Fraction(1))
        for i in range(first, last + 1):
            total = join(total, self.value(body, {**at, str(index.value): Fraction(i)}))
        return total


def _is_literal(expr: Expr) -> bool:
    return expr.op == "number" or (expr.op in ("neg", "inverse", "mul") and all(map(_is_literal, expr.args)))


def _whole(value: Value) -> int:
    if not isinstance(value, Fraction) or value.denominator > 1:
        raise Undefined
    return int(value)


def _root(number: int, root: int) -> int | None:
    """The whole root of a number, if there is one; of a negative number an odd one."""
    if number < 0:
        size = _root(-number, root) if root % 2 else None
        return None if size is None else -size
    if number < 2 or root > number.bit_length():
        return number if number < 2 else None
    low, high = 1, 1 << (number.bit_length() // root + 1)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if middle**root <= number else (low, middle - 1)
    return low if low**root == number else None
