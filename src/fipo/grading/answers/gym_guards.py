"""What stands between a model's answer and those reasoning-gym scorers that would execute it or be taken in by it.

Read against reasoning-gym 0.1.25. A test compares the places where the installed package evaluates text with
those known here, so that another version is read again before it is used.
"""

import ast
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from fipo.grading.answers.arithmetic import nesting
from fipo.grading.answers.countdown import solves

Guard = Callable[[str, dict[str, Any]], bool | None]  # right, wrong, or None: the scorer may see the answer

FORMULA = re.compile(r"[A-Za-z0-9+\-*/(). ]{1,500}", re.ASCII)
NO_NUMBER = re.compile(r"[0-9.]{16}|[0-9.][A-Za-z]", re.ASCII)  # too long, or 1e9, 0x10, 1j
FUNCTIONS = {
    *("exp", "log", "sqrt", "sin", "cos", "tan", "sec", "csc", "cot"),
    *("asin", "acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
}
SYMPY_LETTERS = "INOQS"  # single letters that mean something else than a variable to sympy
MAX_DEPTH = 30
MAX_EXPONENT = 20
MAX_TOWER = 400  # the product of exponents of powers of powers
PROBABILITY = re.compile(r"[0-9]{1,30}(?:\.[0-9]{1,30})?(?:/[0-9]{1,30}|e-[0-9]{1,2})?", re.ASCII)


def within_bounds(answer: str, entry: dict[str, Any]) -> bool:
    """Whether the answer is short enough to be scored at all."""
    return len(answer) <= 10_000 + 2 * len(str(entry["answer"]))


def _by_countdown(answer: str, entry: dict[str, Any]) -> bool:
    return solves(answer, entry["metadata"]["numbers"], entry["metadata"].get("target", 24))


def _by_text(answer: str, entry: dict[str, Any]) -> bool:
    valid = entry["metadata"].get("valid_answers", [entry["answer"]])
    return answer.casefold() in {str(text).strip().casefold() for text in valid}


def _by_probability(answer: str, entry: dict[str, Any]) -> bool:
    answer = answer.replace(",", "")
    expected = Fraction(entry["answer"].replace(",", ""))
    if not PROBABILITY.fullmatch(answer):
        return False
    try:
        return abs(Fraction(answer) - expected) <= expected / 10_000
    except (ValueError, ZeroDivisionError):
        return False


def _if_formula(answer: str, _: dict[str, Any]) -> bool | None:
    return None if is_formula(answer) else False


def _if_finite(answer: str, _: dict[str, Any]) -> bool | None:
    return False if re.search(r"nan|inf", answer, re.IGNORECASE) else None


def _if_roots(answer: str, entry: dict[str, Any]) -> bool | None:
    return None if entry["answer"] else answer == '""'


GUARDS: dict[str, Guard] = {
    # sympy's parse_expr calls eval: the answer would run. Their own check of the numbers is laxer, too:
    # puzzle24 takes any four numbers, and 24.9.
    "countdown": _by_countdown,
    "puzzle24": _by_countdown,
    # The same, but symbolic: the scorer sees formulas only. An unevaluated Integral would count as solved.
    "simple_integration": _if_formula,
    "intermediate_integration": _if_formula,
    "polynomial_multiplication": _if_formula,
    # eval() of the answer, for the partial credit that we leave out.
    "binary_matrix": _by_text,
    "n_queens": _by_text,
    "spiral_matrix": _by_text,
    "string_insertion": _by_text,
    # Wrong answers score 1: any text at all; any number where the right one is negative; ten letters of a
    # longer word.
    "game_of_life_halting": _by_text,
    "calendar_arithmetic": _by_text,
    "figlet_font": _by_text,
    # `0` scores 1 for every 0.xyz, and Fraction("1e999999999") hangs.
    "coin_flip": _by_probability,
    # No number at all scores 1 where there is no root; the question asks for `""` then.
    "polynomial_equations": _if_roots,
    # min(1.0, nan) is 1.0, and [nan] == sorted([nan]).
    "complex_arithmetic": _if_finite,
    "number_sorting": _if_finite,
}


def is_formula(text: str) -> bool:
    """Whether `text` is a formula that sympy may parse, which it does with eval.

    Numbers, variables of one letter, `pi`, + - * /, powers with a small constant exponent, and FUNCTIONS of one
    argument; bounded in length, depth, digits and exponents.
    """
    if not FORMULA.fullmatch(text) or NO_NUMBER.search(text) or nesting(text) > MAX_DEPTH:
        return False
    try:
        return _is_formula(ast.parse(text.strip(), mode="eval").body, MAX_DEPTH, MAX_TOWER)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False


def _is_formula(node: ast.expr, depth: int, tower: int) -> bool:
    """`tower` is how large an exponent may still be, under the powers around this node."""
    if depth == 0:
        return False
    match node:
        case ast.Constant(value=int() | float()):
            return True
        case ast.Name(id=name):
            return name == "pi" or (len(name) == 1 and name not in SYMPY_LETTERS)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return _is_formula(operand, depth - 1, tower)
        case ast.BinOp(left=base, op=ast.Pow(), right=exponent):
            size = _exponent(exponent)
            return size is not None and size <= tower and _is_formula(base, depth - 1, tower // max(size, 1))
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right=right):
            # A long sum is a deep tree on the left, and no danger there: the length bounds it.
            return _is_formula(left, depth, tower) and _is_formula(right, depth - 1, tower)
        case ast.Call(func=ast.Name(id=name), args=[argument], keywords=[]):
            return name in FUNCTIONS and _is_formula(argument, depth - 1, tower)
        case _:
            return False


def _exponent(node: ast.expr) -> int | None:
    """The size of a constant exponent such as 3, -2 or (3/2); None for any other."""
    match node:
        case ast.Constant(value=int(number)) if 0 <= number <= MAX_EXPONENT:
            return number
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            return _exponent(operand)
        case ast.BinOp(left=left, op=ast.Div(), right=ast.Constant(value=int(number))) if 1 <= number <= MAX_EXPONENT:
            return _exponent(left)
        case _:
            return None
