"""The last number of a response, by value (`number` grading)."""

import re
import unicodedata
from collections import deque
from fractions import Fraction

from fipo.data.problem import Problem
from fipo.grading.answers.arithmetic import as_decimal
from fipo.grading.grade import Grade, compared
from fipo.grading.grader import Grader

MOST_DIGITS = 1000
ENDING = 2400  # characters in which the last number mostly stands; no number takes half of them
LATEST = 200  # matches that are looked at
# A comma belongs to a number only before exactly three digits, so that `1,000` is one number and `1,2` are two.
DIGITS = r"(?:[0-9]{1,3}(?:(?:,|\{,\})[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+"
COMMAS = str.maketrans("", "", "{,}")
MINUS = str.maketrans("\u2212\u2013", "--")
SUPERSCRIPTS = re.compile("[\u2070\u00b9\u00b2\u00b3\u2074-\u207b]+")
VULGAR = re.compile("[\u00bc-\u00be\u2150-\u215e]")  # fractions of one character
TO_THE = r"(?:\^|\*\*)\s?\{?\s?"
NO_NUMBER = (  # it has digits, but is none: 12:30, 0x1F, 2^{10}, 1e9999, x^2 and a_1
    r"(?<![0-9.,])[0-9]+(?::[0-9]+)+|(?<![\w.])0[xX][0-9a-fA-F]+|(?<![\w)\]}])\^[-+]?[0-9]+"
    rf"|(?<![0-9.])(?!10\s?\^)[0-9]+(?:\.[0-9]+)?\s?{TO_THE}[-+]?\w+\}}?(?:\s?{TO_THE}[-+]?\w+\}}?)*"
    r"|(?<![0-9.])[0-9][0-9.]*(?:[eE][-+]?[0-9]{4,}|_[0-9]+)"
    r"|[A-Za-z)\]}]\s?[_^]\s?(?:\{[^{}]{0,40}\}|[-+]?\w+)"
)
NUMBER = re.compile(
    rf"{NO_NUMBER}|(?<![0-9.])(?P<sign>(?<![\w)\]])-)?(?:\\?[$\u20ac\u00a3](?P<minus>-)?)?(?:"  # not the minus of `5-3`
    r"\\[dt]?frac\s?(?:\{\s?(?P<above>-?[0-9]+)\s?\}\s?\{\s?(?P<below>[0-9]+)\s?\}|(?P<one>[0-9])\s?(?P<other>[0-9]))"
    rf"|10\s?{TO_THE}(?P<power>[-+]?[0-9]{{1,3}})\}}?"
    rf"|(?P<digits>{DIGITS})(?:[eE](?P<exponent>[-+]?[0-9]{{1,3}})(?!\w|\.[0-9])"
    rf"|\s?(?:\\times|\\cdot|[*x\u00d7\u00b7])\s?10\s?{TO_THE}(?P<times>[-+]?[0-9]{{1,3}})\}}?"
    r"|(?:\s(?P<part>[0-9]+))?\s?/\s?(?P<over>[0-9]+)(?![0-9/]))?)"
)
GOLD = re.compile(rf"\s*(?:-?\$?|\$-)(?:{DIGITS})(?:[eE][-+]?[0-9]{{1,3}})?\s?%?\.?\s*")


class NumberGrader(Grader):
    """The last number in the response, by value: `12.50` equals `12.5`, `1,000` equals `1000`, `1/2` equals `.5`."""

    name = "number"

    def readable(self, problem: Problem) -> str | None:
        if GOLD.fullmatch(problem.answer.translate(MINUS)) and last_number(problem.answer) is not None:
            return None
        return f'grader "number" needs a number as answer, got {problem.answer!r:.80}'

    def grade(self, response: str, problem: Problem) -> Grade:
        return compared(last_number(response), last_number(problem.answer))


grade_number = NumberGrader()


def last_number(text: str) -> str | None:
    """`-1,000.50` as `-1000.5`, `2/4` as `0.5`, `-0` as `0`; None without a number. U+2212 is a minus sign, too."""
    text = text if text.isascii() else _in_ascii(text)
    cut = max(len(text) - ENDING, 0)
    found = _last_in(text, cut)
    if cut and (found is None or found[1] < cut + ENDING // 2):  # the cut may have gone through it
        found = _last_in(text, 0)
    return None if found is None else as_decimal(found[0])


def _in_ascii(text: str) -> str:
    """With the minus signs, powers and fractions that Unicode has besides."""
    text = SUPERSCRIPTS.sub(lambda match: "^" + unicodedata.normalize("NFKC", match[0]), text)
    text = VULGAR.sub(lambda match: " " + unicodedata.normalize("NFKC", match[0]).replace("\u2044", "/"), text)
    return text.translate(MINUS)


def _last_in(text: str, start: int) -> tuple[Fraction, int] | None:
    """(value, place) of the last number from `start` on."""
    for match in reversed(deque(NUMBER.finditer(text, start), maxlen=LATEST)):
        value = _value(match)
        if value is not None:
            return value, match.start()
    return None


def _value(match: re.Match[str]) -> Fraction | None:
    """None for what is no number, or has more digits than one."""
    above, below = match["above"] or match["one"], match["below"] or match["other"] or match["over"]
    if match["digits"] is None and above is None and match["power"] is None:
        return None
    if sum(map(len, filter(None, (match["digits"], above, match["part"], below)))) > MOST_DIGITS:
        return None
    value = Fraction((match["digits"] or above or "1").translate(COMMAS))
    if match["part"]:
        fraction = _over(Fraction(match["part"]), below)
        if fraction is None or fraction >= 1 or value.denominator > 1:
            return None
        value += fraction
    elif below:
        quotient = _over(value, below)
        if quotient is None:
            return None
        value = quotient
    value *= Fraction(10) ** int(match["power"] or match["exponent"] or match["times"] or 0)
    return -value if match["sign"] or match["minus"] else value


def _over(above: Fraction, below: str) -> Fraction | None:
    return above / int(below) if int(below) else None
