"""The value of an arithmetic expression that a model wrote, exactly, and without running it.

Nothing here calls eval. Only integers, + - * /, a minus sign and parentheses pass, in bounded length, depth and
digits, so that the largest value has a few hundred digits and no expression takes long.
"""

import ast
import re
from fractions import Fraction

MAX_CHARACTERS = 400
MAX_DEPTH = 40
MAX_DIGITS = 20
ALLOWED = re.compile(r"[0-9+\-*/() ]*", re.ASCII)
AS_ASCII = str.maketrans({"\u00d7": "*", "\u00f7": "/", "\u2212": "-"})  # multiplication, division, minus sign


def evaluate(text: str) -> Fraction:
    """The exact value of `text`.

    Raises ValueError with the reason for anything but a short expression of integers, + - * /, unary minus and
    parentheses. Decimals are refused: `integers` would not know them.
    """
    return _value(_parsed(text))


def integers(text: str) -> list[int]:
    """The integers written in an expression that `evaluate` takes, in their order: [12, 3] for `12/-3`."""
    return [int(digits) for digits in re.findall(r"[0-9]+", text)]


def nesting(text: str) -> int:
    """How many parentheses are open at most."""
    depth = deepest = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        deepest = max(deepest, depth)
    return deepest


def _parsed(text: str) -> ast.expr:
    text = text.strip()
    if len(text) > MAX_CHARACTERS:
        raise ValueError(f"an expression must have at most {MAX_CHARACTERS} characters, got {len(text)}")
    text = text.translate(AS_ASCII)
    if not ALLOWED.fullmatch(text):
        raise ValueError(f"an expression must consist of integers, + - * / and parentheses, got {text!r:.80}")
    if nesting(text) > MAX_DEPTH:
        raise ValueError(f"parentheses must be nested at most {MAX_DEPTH} deep")
    if any(len(digits) > MAX_DIGITS for digits in re.findall(r"[0-9]+", text)):
        raise ValueError(f"an integer must have at most {MAX_DIGITS} digits")
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as error:
        raise ValueError(f"not an expression: {error.msg}") from None


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int(number)):
            return Fraction(number)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _value(left) + _value(right)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _value(left) - _value(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _value(left) * _value(right)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            divisor = _value(right)
            if divisor == 0:
                raise ValueError("division by zero")
            return _value(left) / divisor
        case _:
            raise ValueError(f"only + - * /, unary minus and parentheses are known, got {type(node).__name__}")


def as_decimal(value: Fraction) -> str:
    """Exactly: `0.5`, or `1/3` where no decimal is."""
    rest, places = value.denominator, 0
    for prime in (2, 5):
        power = 0
        while rest % prime == 0:
            rest, power = rest // prime, power + 1
        places = max(places, power)
    if rest > 1:
        return str(value)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    text = f"{digits[:-places]}.{digits[-places:]}" if places else digits
    return f"-{text}" if value < 0 else text
