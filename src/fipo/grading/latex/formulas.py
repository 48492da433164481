"""Whether two formulas are one function of their unknowns: exactly where they are rational, else at two precisions."""

from fractions import Fraction
from functools import lru_cache

from fipo.grading.latex.expression import Expr, names_in, quotient
from fipo.grading.latex.limits import Budget, TooLarge, Undefined
from fipo.grading.latex.value import At, Calculator, Matrix, Value

ROUGH, FINE = 250, 500  # bits
MOST_NAMES = 12
Pair = tuple[Value, Value]  # a value at both precisions; of a rational number twice the same


class Formulas:
    """Compares formulas within one budget of work. What cannot be computed is equal to what is written alike.

    TooLarge is raised where the budget is used up, and by nothing else.
    """

    def __init__(self) -> None:
        self._rough, self._fine = Calculator(ROUGH), Calculator(FINE)

    def begin(self) -> None:
        """A new verdict, with a new budget."""
        self._rough.budget = self._fine.budget = Budget()

    def spend(self, steps: int) -> None:
        """Raises TooLarge where the budget is used up."""
        self._rough.budget.spend(steps)

    def equal(self, a: Expr, b: Expr) -> bool:
        """At all of some fixed points: those where both are real or, if there are none, where both have a value."""
        if a == b:
            return True
        real: list[bool] = []
        others: list[bool] = []
        for at in points(names_in(a) | names_in(b)):
            verdict = self._at(a, b, at)
            if verdict is None:
                continue
            is_real, equal = verdict
            if is_real and not equal:
                return False
            (real if is_real else others).append(equal)
        return all(real or others or [False])

    def proportional(self, a: Expr, b: Expr, *, positive: bool = False) -> bool:
        """Whether a is b times a number that is not 0: then a = 0 and b = 0 are one equation."""
        factor: Pair | None = None
        names = names_in(a)
        if names != names_in(b) or not names:
            return False
        for at in points(names):
            ratio = self._pair(quotient(a, b), at)
            if ratio is None:
                continue
            if factor is None:
                factor = ratio
            elif not self._same(ratio, factor):
                return False
        if factor is None or factor[0] == 0:
            return False
        return not positive or (self._is_real(factor) and factor[0] > 0)

    def constant(self, expr: Expr) -> Value | None:
        """The value of a formula without unknowns, a Fraction if it is rational; None if it has none."""
        pair = None if names_in(expr) else self._pair(expr, {})
        return None if pair is None else pair[0]

    def _at(self, a: Expr, b: Expr, at: At) -> tuple[bool, bool] | None:
        """(whether both are real, whether they are equal); None where that says nothing."""
        left, right = self._pair(a, at), self._pair(b, at)
        if left is None or right is None:
            return None
        are_real = self._is_real(left), self._is_real(right)
        if are_real[0] != are_real[1] and at:
            return None
        return all(are_real), self._same(left, right)

    def _pair(self, expr: Expr, at: At) -> Pair | None:
        try:
            rough = self._rough.value(expr, at)
            return (rough, rough) if isinstance(rough, Fraction) else (rough, self._fine.value(expr, at))
        except Undefined:
            return None
        except TooLarge:
            if self._rough.budget.used_up:
                raise
            return None

    def _is_real(self, pair: Pair) -> bool:
        try:
            self._rough.real(pair[0]), self._fine.real(pair[1])
        except Undefined:
            return isinstance(pair[0], Matrix)
        return True

    def _same(self, a: Pair, b: Pair) -> bool:
        """A difference that is nothing but rounding shrinks with the precision, another does not."""
        if isinstance(a[0], Matrix) or isinstance(b[0], Matrix):
            return self._same_matrix(a, b)
        if isinstance(a[0], Fraction) and isinstance(b[0], Fraction):
            return bool(a[0] == b[0])
        infinite = [self._rough.mp.isinf(self._rough.floating(pair[0])) for pair in (a, b)]
        if any(infinite):
            return all(infinite) and bool(a[0] == b[0])
        rough = abs(self._rough.floating(a[0]) - self._rough.floating(b[0]))
        fine = abs(self._fine.floating(a[1]) - self._fine.floating(b[1]))
        if rough == 0:
            size = abs(self._fine.floating(a[1])) + abs(self._fine.floating(b[1]))
            return bool(fine <= size * self._fine.mp.ldexp(1, -FINE + 50))
        return bool(fine <= self._fine.mp.ldexp(self._fine.mp.mpf(rough), -(FINE - ROUGH) // 2))

    def _same_matrix(self, a: Pair, b: Pair) -> bool:
        if not (isinstance(a[0], Matrix) and isinstance(b[0], Matrix)) or a[0].shape != b[0].shape:
            return False
        entries = (zip(pair[0].entries, pair[1].entries, strict=True) for pair in (a, b))
        return all(self._same(x, y) for x, y in zip(*entries, strict=True))


@lru_cache(maxsize=256)
def points(names: frozenset[str]) -> tuple[At, ...]:
    """Fixed values for the unknowns: eight times fractions of either sign, then six times whole numbers."""
    if not names:
        return ({},)
    ordered = sorted(names)[:MOST_NAMES]
    fractions = (
        {
            name: Fraction((-1) ** ((i + j) * (i > 3)) * ((7 * i + 11 * j + 3) % 23 + 2), (5 * i + 3 * j) % 7 + 3)
            for j, name in enumerate(ordered)
        }
        for i in range(8)
    )
    whole = ({name: Fraction((4 * i + 3 * j) % 7 + 1) for j, name in enumerate(ordered)} for i in range(6))
    return (*fractions, *whole)
