"""Words beside a number that change what it says: `at least 12`, `minus 12` and `12 million` do not say 12."""

import re
from collections.abc import Sequence

OTHER = re.compile(  # what stands before says something else of the number than that it is the answer
    r"\b(?:not|cannot|never)\b|\b(?:at least|at most|than|up to|half(?: of)?|twice|thrice|double|triple|over|under|"
    r"above|below|beyond|between|exceeds?|except|besides|but)(?: the| an?)?\s*\Z",
    re.IGNORECASE,
)
NEGATIVE = re.compile(r"\b(?:minus|negative)\s*\Z", re.IGNORECASE)
SCALES = {"dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
BEHIND = {"mod", "modulo", "than", "least", "most", "maximum", "minimum", "factorial", "squared", "cubed"} | {
    *("halves", "thirds", "fourths", "fifths", "sixths", "sevenths", "eighths", "ninths", "tenths", "hundredths"),
    "thousandths",
}


def scaled(words: Sequence[str]) -> tuple[int, list[str]]:
    """(by what the words behind a number multiply it, the rest of them): of [million, euros], (10^6, [euros])."""
    scale = 1
    rest = list(words)
    while rest and (factor := SCALES.get(rest[0].lower().removesuffix("s"))):
        scale *= factor
        rest = rest[1:]
    return scale, rest
