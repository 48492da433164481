"""Units of measurement: which quantities can be compared, and by what factor."""

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

# (what is measured, how much of its base unit)
UNITS: dict[str, tuple[str, Fraction]] = {
    name: (measure, Fraction(size))
    for measure, sizes in {
        "length": {
            "mm millimeter millimetre": "0.001",
            "cm centimeter centimetre": "0.01",
            "m meter metre": "1",
            "km kilometer kilometre": "1000",
            "in inch inche": "0.0254",
            "ft foot feet": "0.3048",
            "yd yard": "0.9144",
            "mi mile": "1609.344",
        },
        "mass": {
            "mg milligram": "0.001",
            "g gram": "1",
            "kg kilogram": "1000",
            "oz ounce": "28.349523125",
            "lb pound": "453.59237",
        },
        "time": {"s sec second": "1", "min minute": "60", "h hr hour": "3600", "day": "86400", "week": "604800"},
        "volume": {"ml milliliter millilitre": "0.001", "l liter litre": "1"},
        "money": {"cent": "0.01", "dollar usd": "1"},
        "angle": {"degree deg": "1"},
    }.items()
    for names, size in sizes.items()
    for name in names.split()
}
SPELLED = {"mph": ("mile", "/", "hour"), "kph": ("km", "/", "hour"), "kmh": ("km", "/", "hour")}
POWERS = {"sq": 2, "square": 2, "squared": 2, "cubic": 3, "cubed": 3, "cu": 3}

Unit = tuple[tuple[tuple[str, int], ...], Fraction]  # what is measured, to which power; the factor


def unit_of(words: Sequence[str]) -> Unit | None:
    """The unit that words such as [km, /, h] or [cm, ^, 2] are; None for one that is not known."""
    words = [part for word in words for part in SPELLED.get(word.lower(), (word,))]
    measures: Counter[str] = Counter()
    factor, sign, power = Fraction(1), 1, 1
    for i, word in enumerate(words):
        name = word if word in UNITS else word.lower() if word.lower() in UNITS else word.lower().removesuffix("s")
        following = [each for each in words[i + 1 : i + 5] if each not in ("^", "{", "}")]
        if name in UNITS:
            behind = following[0] if following else ""
            power = sign * (POWERS.get(behind) or (int(behind) if behind in "23" and behind else power))
            measure, size = UNITS[name]
            measures[measure] += power
            factor *= size**power
            power = 1
        elif word in ("/", "per"):
            sign = -1
        elif word in POWERS:
            power = POWERS[word]
        elif word not in ("^", "{", "}", "*", "(", ")", ".", "2", "3"):
            return None
    found = tuple(sorted((measure, power) for measure, power in measures.items() if power))
    return (found, factor) if found else None
