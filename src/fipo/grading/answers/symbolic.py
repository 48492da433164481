r"""Symbolic equality by the math-verify package (`math` grading): `\frac{1}{2}` equals `0.5`, `x+1` equals `1+x`.

math-verify's own timeouts are switched off: they use SIGALRM, and what hangs is killed with the grading worker
instead. Numbers with thousands of digits, such as 9^9^9, are not computed at all.
"""

import logging
import math
import re
from functools import lru_cache
from typing import Any

import math_verify.parser
import sympy
from math_verify import parse, verify

from fipo.grading.answers.arithmetic import evaluate
from fipo.grading.answers.extract import tagged_answer
from fipo.grading.grade import Grade

TAIL = 4000  # characters; its regular expressions take time with the square of a text's length
MAX_DEPTH = 50
MAX_LOG10 = 3000.0  # digits of the largest number that is computed
MAX_TERMS_LOG10 = 4.0  # 10,000 terms of a sum or product

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its timeouts are off


def graded(response: str, answer: str) -> Grade:
    r"""The last answer in the final 4000 characters, by value: in \boxed{}, in dollar signs, or a bare number.

    Where there is an `<answer>` tag, the last one alone is read. Boxes close to each other are one answer, a set.
    Raises ValueError if the problem's own answer cannot be read.
    """
    expected = truth(answer)
    tail = response[-TAIL:]
    tagged = tagged_answer(tail)
    found = _parsed(tail) if tagged is None else _parsed(tagged) or _parsed(f"${tagged}$")
    if not found:
        return Grade(outcome="no_answer", answer=None)
    right = _same(expected, found)
    return Grade(outcome="correct" if right else "wrong", answer=str(found[-1]) if _is_small(found[-1]) else "")


def same_value(a: str, b: str) -> bool:
    """Whether two answers have one value. What cannot be read has none."""
    found = [_parsed(f"\\boxed{{{text}}}") for text in (a, b)]
    return all(found) and _same(*found)


@lru_cache(maxsize=1024)
def truth(answer: str) -> tuple[Any, ...]:
    """The problem's answer, given bare or as latex. Raises ValueError if it cannot be read."""
    bare = "$" not in answer and "\\boxed" not in answer
    parsed = _parsed(f"${answer}$" if bare else answer)
    if not parsed:
        raise ValueError(f'grader "math" needs a number or latex as answer, got {answer!r:.80}')
    return parsed


def _parsed(text: str) -> tuple[Any, ...]:
    """What was found, as math-verify gives it: the expression, if it could be parsed, and its text."""
    if _is_tangled(text):
        return ()
    return tuple(parse(text, parsing_timeout=None))


def _is_tangled(text: str) -> bool:
    """Whether brackets or signs are piled up as in no answer: parsing that takes seconds."""
    depth = 0
    for bracket in re.findall(r"[\[\](){}]", text):
        depth = depth + 1 if bracket in "[({" else max(depth - 1, 0)
        if depth > MAX_DEPTH:
            return True
    return re.search(r"(?:[-+]\s?){50}", text) is not None


def _same(expected: tuple[Any, ...], found: tuple[Any, ...]) -> bool:
    if all(map(_is_small, expected + found)):
        return bool(verify(list(expected), list(found), timeout_seconds=None))
    return any(isinstance(text, str) and text in expected for text in found)


def _is_small(expression: Any) -> bool:
    try:
        return not isinstance(expression, sympy.Basic) or _log10(expression) <= MAX_LOG10
    except RecursionError:
        return False


def _log10(expression: Any) -> float:
    """Roughly the digits of the largest number that computing `expression` would make; inf for too many."""
    if isinstance(expression, sympy.Rational):
        return math.log10(max(abs(expression.p), expression.q, 2))
    inside = [_log10(argument) for argument in expression.args]
    largest = max(inside, default=math.log10(2))
    if largest > MAX_LOG10 or (isinstance(expression, sympy.Sum | sympy.Product) and largest > MAX_TERMS_LOG10):
        return math.inf
    if isinstance(expression, sympy.Pow) and expression.exp.is_number:
        return inside[0] * 10.0 ** min(inside[1], 300.0)
    if isinstance(expression, sympy.factorial | sympy.binomial):
        return largest * 10.0 ** min(largest, 300.0)
    return sum(inside) if isinstance(expression, sympy.Mul) else largest


def _arithmetic(expression: str) -> sympy.Rational:
    """In place of sympy's parser, which evals: math-verify hands plain expressions such as `(2+15)*2` to it."""
    value = evaluate(expression)
    return sympy.Rational(value.numerator, value.denominator)


math_verify.parser.parse_expr_cached = _arithmetic
truth("\\frac{1}{2}")  # math-verify builds its parser with the first answer, on no answer's time
