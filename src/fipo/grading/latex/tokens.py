"""The tokens of a formula, in LaTeX or as it is typed."""

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Literal, NamedTuple

from fipo.grading.latex.spelling import evened_out

MOST_CHARACTERS = 3000
MOST_TOKENS = 1200
MOST_DEPTH = 40  # of what stands in brackets, exponents, ...

Kind = Literal["number", "letter", "word", "command", "sign"]


class Unreadable(ValueError):
    """No formula, or more of one than is read."""


class Token(NamedTuple):
    kind: Kind
    text: str  # "12.50", "x", "apples", "frac", "+"
    gap: bool = False  # white space stands before it
    value: Fraction | None = None  # of a number


SCAN = re.compile(
    r"(?P<gap>\s+)|(?P<repeating>(?P<head>\d*\.\d*)\\(?:overline|dot|bar)\s*\{?(?P<period>\d+)\}?)"
    r"|(?P<scientific>(?:\d+(?:\.\d+)?|\.\d+)[eE][-+]?\d+(?![\w.]))|(?P<number>\d+(?:\.\d+)?|\.\d+)|\\(?P<command>[a-zA-Z]+\*?)|(?P<row>\\\\)|\\(?P<delimiter>[{}|])"
    r"|(?P<letters>[a-zA-Z]+)|(?P<word>[^\W\d_]+)|(?P<dots>\.{3})|(?P<sign><=|>=|!=|==|\*\*|[-+*/^_=<>()\[\]{},:;!|%'&.?])"
)
GROUPED = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?(?![\d,])")

ALIASES = {
    **dict.fromkeys(("dfrac", "tfrac", "cfrac", "nicefrac", "sfrac"), "frac"),
    **dict.fromkeys(("dbinom", "tbinom"), "binom"),
    **dict.fromkeys(("varnothing", "emptyset"), "emptyset"),
    **dict.fromkeys(("ldots", "cdots", "dots", "dotsc", "dotsb", "vdots"), "ldots"),
    **dict.fromkeys(("arcsin", "asin"), "asin"),
    **dict.fromkeys(("arccos", "acos"), "acos"),
    **dict.fromkeys(("arctan", "atan", "arctg"), "atan"),
    "tg": "tan",
    "ctg": "cot",
    "infinity": "infty",
    "oo": "infty",
    "degrees": "degree",
    "backslash": "setminus",
    "land": "and",
    "lor": "or",
    "vee": "or",
    "wedge": "and",
}
SIGNS = {  # commands that are signs by another name
    **dict.fromkeys(("cdot", "times", "ast", "bullet"), "*"),
    **dict.fromkeys(("le", "leq", "leqslant", "leqq"), "<="),
    **dict.fromkeys(("ge", "geq", "geqslant", "geqq"), ">="),
    **dict.fromkeys(("ne", "neq"), "!="),
    **dict.fromkeys(("langle", "lparen"), "("),
    **dict.fromkeys(("rangle", "rparen"), ")"),
    **dict.fromkeys(("lbrack",), "["),
    **dict.fromkeys(("rbrack",), "]"),
    **dict.fromkeys(("lvert", "rvert", "vert", "mid"), "|"),
    "div": "/",
    "colon": ":",
    "lt": "<",
    "gt": ">",
    "equiv": "=",
    "prime": "'",
    "lbrace": r"\{",
    "rbrace": r"\}",
    "**": "^",
    "==": "=",
}
TEXTS = {"text", "textrm", "textnormal", "mbox", "mathrm", "textsf", "mathsf", "hbox", "operatorname", "operatorname*"}
FONTS = {"textbf", "textit", "emph", "mathbf", "mathit", "mathcal", "boldsymbol", "bm", "underline", "mathtt", "texttt"}
IGNORED = {
    *("boxed", "fbox", "framebox", "ensuremath", "displaystyle", "textstyle", "limits", "nolimits", "mathstrut"),
    *("strut", "rm", "bf", "it", "bfseries", "tiny", "scriptsize", "footnotesize", "small", "normalsize", "large"),
    *("Large", "LARGE", "huge", "Huge", "centering", "noindent"),
}
FUNCTIONS = {
    *(
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "asin",
        "acos",
        "atan",
        "sinh",
        "cosh",
        "tanh",
        "exp",
        "ln",
        "log",
        "lg",
    ),
    *("sqrt", "gcd", "lcm", "max", "min", "floor", "ceil", "abs", "sgn"),
}
TYPED = (FUNCTIONS - {"sec", "min", "max"}) | {"pi", "arcsin", "arccos", "arctan", "infinity", "oo"}  # no backslash
LETTER_UNITS = set("msghlLAVWNJKFCT")
SHORT_WORDS = {
    *("and", "or", "cm", "mm", "km", "kg", "mg", "ft", "in", "lb", "lbs", "oz", "mi", "yd", "hr", "hrs", "min", "mins"),
    *(
        "sec",
        "secs",
        "ms",
        "mph",
        "kph",
        "kmh",
        "rpm",
        "ml",
        "mL",
        "pts",
        "deg",
        "rad",
        "usd",
        "USD",
        "pct",
        "day",
        "men",
    ),
    *("way", "cow", "hen", "car", "egg", "box", "yes", "no", "Yes", "No", "is", "of", "the", "per", "are", "for", "to"),
    *("Rs", "sq", "cu", "yrs", "yr", "gal", "boy", "pen", "cup", "bag", "pie", "set"),
}


@lru_cache(maxsize=4096)
def tokens_of(text: str, grouped: bool = True) -> tuple[Token, ...]:
    """The tokens of a text. `grouped`: outside brackets `1,234` is one number, else two.

    Raises Unreadable for a character that no formula has, brackets that do not close, and what is too long.
    """
    if len(text) > MOST_CHARACTERS:
        raise Unreadable(f"a formula must have at most {MOST_CHARACTERS} characters, got {len(text)}")
    found = list(_scanned(evened_out(text), grouped, textual=None))
    if len(found) > MOST_TOKENS:
        raise Unreadable(f"a formula must have at most {MOST_TOKENS} parts, got {len(found)}")
    _check_brackets(found)
    return tuple(found)


def _scanned(text: str, grouped: bool, textual: str | None) -> Iterator[Token]:
    """`textual`: the command that the text stands in, such as \\text."""
    position, depth, gap = 0, 0, False
    while position < len(text):
        match = SCAN.match(text, position)
        if match is None:
            if textual is None:
                raise Unreadable(f"a formula has no {text[position]!r}")
            position += 1  # punctuation
            continue
        kind = str(match.lastgroup)
        if kind == "number" and grouped and depth == 0:
            match = GROUPED.match(text, position) or match
        position = match.end()
        if kind == "gap":
            gap = True
            continue
        if kind == "command" and match[kind] in TEXTS | FONTS:
            content, position = _group(text, position)
            new = list(_scanned(content, grouped and depth == 0, textual=match[kind]))
        else:
            new = list(_made(kind, match[0], match, textual))
        for token in new:
            depth += (token.text in ("(", "[", r"\{")) - (token.text in (")", "]", r"\}"))
            yield token._replace(gap=gap or token.gap)
            gap = False


def _made(kind: str, text: str, match: re.Match[str], textual: str | None) -> Iterator[Token]:
    match kind:
        case "number" | "scientific":
            yield Token("number", text.replace(",", ""), value=_number(text.replace(",", "")))
        case "repeating":
            yield Token("number", text, value=_repeating(match["head"], match["period"]))
        case "command":
            yield from _of_command(ALIASES.get(text[1:], text[1:]))
        case "delimiter":
            yield Token("sign", "|" if text == r"\|" else text)
        case "dots":
            yield Token("command", "ldots")
        case "letters":
            yield from _of_letters(text, textual)
        case "word":
            yield Token("word", text)
        case _:
            yield Token("sign", SIGNS.get(text, text))


def _number(text: str) -> Fraction:
    exponent = text.lower().partition("e")[2].lstrip("+-")
    if len(exponent) > 3:
        raise Unreadable(f"an exponent must have at most 3 digits, got {text!r:.20}")
    return Fraction(text)


def _of_command(name: str) -> Iterator[Token]:
    if name in SIGNS:
        yield Token("sign", SIGNS[name])
    elif name in ("and", "or"):
        yield Token("word", name)
    elif name not in IGNORED:
        yield Token("command", name)


def _of_letters(run: str, textual: str | None) -> Iterator[Token]:
    """Whether letters beside each other are a function, a word, or variables."""
    if run in TYPED and (textual is None or textual in ("mathrm", "operatorname", "operatorname*")):
        yield Token("command", ALIASES.get(run, run))
    elif textual in TEXTS:
        yield Token("word" if len(run) > 1 or run in LETTER_UNITS else "letter", run)
    elif run in SHORT_WORDS or (len(run) > 3 and re.search("[aeiouAEIOU]", run)):
        yield Token("word", run)
    else:
        for letter in run:
            yield Token("letter", letter)


def _group(text: str, position: int) -> tuple[str, int]:
    """(what stands in the braces that begin here, or the next character; where it ends)."""
    while position < len(text) and text[position].isspace():
        position += 1
    if not text.startswith("{", position):
        return text[position : position + 1], position + 1
    depth = 0
    for brace in re.finditer(r"\\.|[{}]", text[position:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return text[position + 1 : position + brace.start()], position + brace.end()
    raise Unreadable("its braces do not close")


def _repeating(head: str, period: str) -> Fraction:
    r"""0.1\overline{6} is 1/6."""
    whole, _, decimals = head.partition(".")
    cycle = Fraction(int(period), (10 ** len(period) - 1) * 10 ** len(decimals))
    return Fraction(f"{whole or 0}.{decimals or 0}") + cycle


def _check_brackets(tokens: list[Token]) -> None:
    """Braces must close; brackets of intervals may close otherwise than they open."""
    depth = braces = 0
    for token in tokens:
        if token.kind == "sign":
            depth += (token.text in ("(", "[", "{", r"\{")) - (token.text in (")", "]", "}", r"\}"))
            braces += (token.text == "{") - (token.text == "}")
        if depth > MOST_DEPTH:
            raise Unreadable(f"brackets must be nested at most {MOST_DEPTH} deep")
        if braces < 0:
            break
    if braces != 0:
        raise Unreadable("its braces do not close")
