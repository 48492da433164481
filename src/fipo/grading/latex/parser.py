"""From tokens to a formula."""

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

from fipo.grading.latex.cursor import Cursor
from fipo.grading.latex.expression import Expr, in_base, in_radians, number, quotient
from fipo.grading.latex.tokens import MOST_DEPTH, Token, Unreadable

CIRCULAR = {"sin", "cos", "tan", "cot", "sec", "csc"}
BARE = CIRCULAR | {"asin", "acos", "atan", "sinh", "cosh", "tanh", "exp", "ln", "log", "lg"}  # sin x, as well as sin(x)
CALLED = {"gcd", "lcm", "max", "min", "floor", "ceil", "abs", "sgn"}
UNKNOWN = "fgh"  # f(x) is no product
SIGNED = {"+": "", "-": "neg", "\\pm": "pm", "\\mp": "mp"}
POSTFIX = {"!": "factorial", "%": "percent", "\\degree": "degree"}
ROUNDING = {"lfloor": ("floor", "\\rfloor"), "lceil": ("ceil", "\\rceil")}
MOST_SIGNS = 10
CLOSING = {"(": ")", "[": "]", "{": "}"}
MARKS = {"bar", "overline", "hat", "vec", "dot", "ddot", "tilde", "overrightarrow", "widehat", "mathbb", "angle"}
MATRICES = {"matrix", "pmatrix", "bmatrix", "Bmatrix", "smallmatrix", "array"}
# Commands that are no part of a product: they end it, or the whole cannot be computed.
NO_FACTOR = {
    *("cup", "cap", "setminus", "in", "notin", "subset", "subseteq", "pm", "mp", "ldots", "over", "choose", "approx"),
    *("sim", "simeq", "cong", "to", "rightarrow", "Rightarrow", "implies", "mapsto", "int", "iint", "oint", "lim"),
    *("partial", "nabla", "pmod", "bmod", "mod", "end", "rfloor", "rceil", "degree", "hline", "quad", "iff", "forall"),
}


def parse(tokens: Sequence[Token]) -> Expr:
    """The formula that all of the tokens are. Raises Unreadable if they are none."""
    parser = _Parser(tokens)
    found = parser.whole()
    if parser.key:
        raise Unreadable(f"not a formula from {parser.key!r} on")
    return found


class _Parser(Cursor):
    """From left to right: sums of products of powers."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        super().__init__(tokens)
        self.depth = 0
        self.bars = 0  # of absolute values that are open

    def whole(self) -> Expr:
        """A sum, or two with \\over or \\choose between them."""
        left = self.sum()
        if self.key == "\\over":
            self.at += 1
            return quotient(left, self.sum())
        if self.key == "\\choose":
            self.at += 1
            return Expr("binom", (left, self.sum()))
        return left

    def sum(self) -> Expr:
        terms = [self.term()]
        while self.key in SIGNED:
            terms.append(self.term())
        return terms[0] if len(terms) == 1 else Expr("add", tuple(terms))

    def term(self) -> Expr:
        """A product, and the signs before it."""
        signs = []
        while self.key in SIGNED:
            signs.append(SIGNED[self.key])
            self.at += 1
        found = self.product()
        if len(signs) > MOST_SIGNS:
            raise Unreadable(f"a formula must have at most {MOST_SIGNS} signs in a row")
        for op in reversed([op for op in signs if op]):
            found = found.args[0] if (op, found.op) == ("neg", "neg") else Expr(op, (found,))
        return found

    def product(self) -> Expr:
        factors = [self.power()]
        while self.key in ("*", "/") or self.starts_factor():
            if self.key not in ("*", "/"):
                factors.append(self.power())
            elif self.take().text == "*":
                factors.append(self.factor())
            else:
                factors.append(Expr("inverse", (self.factor(),)))
        return factors[0] if len(factors) == 1 else Expr("mul", tuple(factors))

    def factor(self) -> Expr:
        """What follows * or /, which may have a sign."""
        minus = False
        while self.key in ("+", "-"):
            minus ^= self.take().text == "-"
        return Expr("neg", (self.power(),)) if minus else self.power()

    def starts_factor(self) -> bool:
        token = self.token
        if token is None or token.kind == "word":
            return token is not None and len(token.text) == 1
        if token.kind == "command":
            return token.text not in NO_FACTOR
        return token.kind in ("number", "letter") or token.text in CLOSING or (token.text == "|" and self.bars == 0)

    def power(self) -> Expr:
        base = self.atom()
        for _ in range(MOST_SIGNS):
            key = self.key
            if key in POSTFIX:
                self.at += 1
                base = Expr(POSTFIX[key], (base,))
                if key == "!" == self.key:
                    self.at += 1
                    base = replace(base, op="factorial2")
            elif key == "^":
                self.at += 1
                base = Expr("pow", (base, self.exponent()))
            elif key == "_" and base.op == "number":
                self.at += 1
                base = in_base(base, self.subscript())
            else:
                return base
        raise Unreadable(f"a formula must have at most {MOST_SIGNS} signs in a row")

    def exponent(self) -> Expr:
        """The next part, with its sign and with the powers on top of it: 2^3^2 is 2^9."""
        minus = self.key == "-"
        self.at += minus
        towers = [self.atom(mixed=False)]
        while self.key == "^" and len(towers) < MOST_SIGNS:
            self.at += 1
            towers.append(self.atom(mixed=False))
        found = towers.pop()
        while towers:
            found = Expr("pow", (towers.pop(), found))
        return Expr("neg", (found,)) if minus else found

    def argument(self, digits: bool = False) -> Expr:
        """What a command takes: a group, or the next part alone; of digits, as TeX has it, the first."""
        token = self.token
        if digits and token is not None and token.kind == "number" and token.text.isdigit() and len(token.text) > 1:
            self.tokens[self.at] = token._replace(text=token.text[1:], value=Fraction(token.text[1:]), gap=False)
            return number(int(token.text[0]))
        return self.atom(mixed=False)

    def atom(self, mixed: bool = True) -> Expr:
        self.depth += 1
        if self.depth > MOST_DEPTH:
            raise Unreadable(f"a formula must be nested at most {MOST_DEPTH} deep")
        found = self._atom(mixed)
        self.depth -= 1
        return found

    def _atom(self, mixed: bool) -> Expr:
        token = self.take()
        match token.kind:
            case "number":
                return self.mixed(token) if mixed else Expr("number", value=token.value)
            case "letter" | "word" if len(token.text) == 1:
                return self.name(token.text)
            case "command":
                return self.command(token.text)
            case "sign" if token.text in CLOSING:
                inner = self.whole()
                self.expect(CLOSING[token.text])
                return inner
            case "sign" if token.text == "|":
                self.bars += 1
                inner = self.whole()
                self.expect("|")
                self.bars -= 1
                return Expr("abs", (inner,))
        raise Unreadable(f"a formula must not go on with {token.text!r}")

    def mixed(self, token: Token) -> Expr:
        r"""A number, and what belongs to it: `1 1/4` and `1\frac{1}{4}` are 5/4. Two numbers side by side are none."""
        whole = Expr("number", value=token.value)
        if not token.text.isdigit() or self.key not in ("\\frac", "number"):
            return whole
        at, tokens = self.at, list(self.tokens)
        if self.key == "number":
            above = self.number()
            self.expect("/")
            below = self.number()
        else:
            self.at += 1
            above, below = self.argument(digits=True), self.argument(digits=True)
        parts = [part.value for part in (above, below)]
        if all(isinstance(part, Fraction) and part.denominator == 1 for part in parts):
            fraction = Fraction(*parts) if parts[1] else Fraction(1)  # type: ignore[arg-type]
            if 0 < fraction < 1:
                return Expr("add", (whole, number(fraction)))
        if tokens[at].kind == "number":
            raise Unreadable("two numbers must not stand side by side")
        self.at, self.tokens = at, tokens
        return whole

    def number(self) -> Expr:
        if self.key != "number":
            raise Unreadable(f"a number must come here, got {self.key!r}")
        return Expr("number", value=self.take().value)

    def name(self, letter: str) -> Expr:
        """A variable with its index and primes, a constant, or a function that is not known."""
        if letter in "CP" and self.key == "(" and (arguments := self.arguments(2)):
            return Expr("binom" if letter == "C" else "permutations", arguments)
        text = letter + self.index()
        if letter in UNKNOWN and self.key == "(":
            return Expr("apply", self.arguments(), value=text)
        return Expr("constant", value=text) if text in ("e", "i") else Expr("name", value=text)

    def arguments(self, count: int | None = None) -> tuple[Expr, ...]:
        """`(a, b)`; nothing, and nothing taken, if there are not `count` of them."""
        start = self.at
        self.expect("(")
        found = [self.whole()]
        while self.key == ",":
            self.at += 1
            found.append(self.whole())
        self.expect(")")
        if count is not None and len(found) != count:
            self.at = start
            return ()
        return tuple(found)

    def command(self, name: str) -> Expr:
        reader = {"frac": self.fraction, "binom": self.binomial, "sqrt": self.root, "begin": self.matrix}.get(name)
        if reader is not None:
            return reader()
        if name in ROUNDING:
            op, closing = ROUNDING[name]
            inner = self.whole()
            self.expect(closing)
            return Expr(op, (inner,))
        if name in ("pi", "infty"):
            return Expr("constant", value=name)
        if name in ("sum", "prod"):
            return self.series(name)
        if name in BARE:
            return self.function(name)
        if name in CALLED:
            return Expr(name, self.arguments())
        if name in NO_FACTOR:
            raise Unreadable(f"\\{name} is not computed")
        marked = f"{{{self.subscript()}}}" if name in MARKS else ""
        return Expr("name", value=f"\\{name}{marked}{self.index()}")

    def fraction(self) -> Expr:
        return quotient(self.argument(digits=True), self.argument(digits=True))

    def binomial(self) -> Expr:
        return Expr("binom", (self.argument(digits=True), self.argument(digits=True)))

    def root(self) -> Expr:
        degree = number(2)
        if self.key == "[":
            self.at += 1
            degree = self.whole()
            self.expect("]")
        return Expr("pow", (self.argument(), quotient(number(1), degree)))

    def function(self, name: str) -> Expr:
        r"""`\sin^2 2x`, `\log_2(x)`, `\sin^{-1} x`: what follows up to a sign or the next function is its argument."""
        power: Expr | None = None
        base: tuple[Expr, ...] = ()
        while self.key in ("^", "_"):
            if self.take().text == "^":
                power = self.exponent()
            else:
                base = (self.argument(),)
        if power == Expr("neg", (number(1),)) and name in CIRCULAR:
            name, power = f"a{name}", None
        argument = self.atom() if self.key in CLOSING or self.key == "|" else self.product_of_function()
        value = Expr(name, ((in_radians(argument) if name in CIRCULAR else argument), *base))
        return Expr("pow", (value, power)) if power else value

    def product_of_function(self) -> Expr:
        factors = [self.power()]
        while self.starts_factor() and self.key.removeprefix("\\") not in BARE and self.key not in CLOSING:
            factors.append(self.power())
        return factors[0] if len(factors) == 1 else Expr("mul", tuple(factors))

    def series(self, name: str) -> Expr:
        r"""`\sum_{k=1}^n` of the product that follows."""
        self.expect("_")
        lower = self.group()
        if len(lower) < 3 or lower[0].kind != "letter" or lower[1].text != "=":
            raise Unreadable("a sum must begin at a number")
        self.expect("^")
        upper = self.exponent()
        index = Expr("name", value=lower[0].text)
        return Expr(name, (index, parse(lower[2:]), upper, self.product()))

    def matrix(self) -> Expr:
        environment = "".join(token.text for token in self.group())
        if environment not in MATRICES:
            raise Unreadable(f"the environment {environment} is not computed")
        if environment == "array":
            self.group()
        rows = self.rows()
        return Expr("matrix", tuple(parse(cell) for row in rows for cell in row), value=(len(rows), len(rows[0])))
