r"""What an answer can say: a quantity, a list, an interval, an equation, or words."""

from dataclasses import dataclass
from fractions import Fraction

from fipo.grading.latex.expression import Expr
from fipo.grading.latex.units import Unit

INFINITY = Expr("constant", value="infty")


@dataclass(frozen=True)
class Quantity:
    expr: Expr
    percent: bool = False
    unit: Unit | None = None
    ulp: Fraction | None = None  # of a decimal: one in its last place
    digits: int = 0  # and how many of them say something


NEGATIVE_INFINITY = Quantity(Expr("neg", (INFINITY,)))


@dataclass(frozen=True)
class Listing:
    """Several answers: in braces or bare in any order, in other brackets in theirs; `1:2` has a colon for one."""

    items: tuple["Reading", ...]
    bracket: str = ""  # "", "{}", "()", "[)", ":", ...

    @property
    def ordered(self) -> bool:
        return self.bracket not in ("", "{}") or any(item == DOTS for item in self.items)


@dataclass(frozen=True)
class Interval:
    low: "Reading"
    high: "Reading"
    bracket: str  # "(]": without its lower end, with its upper one


@dataclass(frozen=True)
class Union:
    parts: tuple["Reading", ...]


@dataclass(frozen=True)
class Complement:
    """All but these."""

    items: "Reading"


@dataclass(frozen=True)
class Named:
    """`x = 5`, `f(x) = 3x`."""

    name: str
    value: "Reading"


@dataclass(frozen=True)
class Equation:
    """expr = 0."""

    expr: Expr


@dataclass(frozen=True)
class Inequality:
    """expr < 0, or <= 0."""

    expr: Expr
    strict: bool


@dataclass(frozen=True)
class Chain:
    """`1 + 4 = 5`: several formulas that are said to be equal."""

    parts: tuple["Reading", ...]


@dataclass(frozen=True)
class Written:
    """What can be compared as a text alone."""

    text: str


Reading = Quantity | Listing | Interval | Union | Complement | Named | Equation | Inequality | Chain | Written
DOTS = Written("...")
