"""What a fuzz puts where a recipe has something else: values, and TOML as it would be written by hand."""

import datetime
import math
import random
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Written:
    """TOML as it stands in the file, right or wrong."""

    text: str


NUMBERS: list[Any] = [
    *(-1, 0, 1, 2, 3, 7, 100, 10**6 + 1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**64, 10**30, 10**400),
    *(-0.5, -0.0, 5e-324, 1e-9, 0.5, 1.0, 1.5, 2.0, 1e9, 1.7976931348623157e308, math.nan, math.inf, -math.inf),
]
TEXTS: list[Any] = [
    *("", " ", "x", "auto", "none", "number", "math", "embedded", "1", "-1", "nan", "true", "null", "off"),
    *(
        "\u202e\u0661\U0001f4a9",
        "\u0663",
        "a\nb",
        "a\r",
        "\t",
        "\x1b[2J\x1b]0;x\x07",
        "\x7f",
        "\u2028",
        "a\0b",
        "\ufeff",
    ),
    *("../../../../evil", "/etc/passwd", "/dev/zero", "/proc/self/mem", ".", "..", "~", "~/x", "a/b", "-x", "--x.y"),
    *(
        "%s%n{0.__class__}",
        "[red]x[/red] [/]",
        "$(id)",
        "a:b",
        "os:system",
        "http://[::1",
        "a" * 5000,
        "\U0001f469" * 300,
    ),
    *("signed_sums", "countdown", "file", "hub", "release_32b", "gspo", "paper", "unguarded", "{{ x }}", "${x}"),
]
OTHERS: list[Any] = [
    *(True, False, [], [1], [-1.0], ["a"], [[]], [[[[]]]], [math.nan, math.nan], [1.0, 0.5], ["a"] * 2000, [0] * 5000),
    *({}, {"a": 1}, {"a.b": {"c": 1}}, {"source": "x"}, {"source": 1}, [{"prompt": "x", "response": "y"}], [{}]),
    *(datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1), datetime.time(1, 1)),
    *(
        Written(text)
        for text in ("9" * 5000, "-" + "9" * 5000, "1e400", "1e-400", "0x" + "f" * 40, "1__0", "+", "nan1")
    ),
    *(
        Written(text)
        for text in ("[" * 900 + "]" * 900, "{a=" * 500 + "1" + "}" * 500, '"\\u0000"', '"\\ud800"', "'''")
    ),
    *(Written(text) for text in ("1\nx = 2", "1\n[run]", "{a = 1, a = 2}", "1979-13-01", '"""\n"""', "inf", "")),
]
CHARACTERS = "aA0._-+/:\\\"' \t\n\r\0\x1b\u00e9\u0661\u202e\u2603\U0001f4a9[]{}()=#,$%@~*"


def a_value(rng: random.Random) -> Any:
    """One of the above, or one that was drawn."""
    drawn = rng.randrange(10)
    if drawn < 7:
        return rng.choice(rng.choice((NUMBERS, TEXTS, OTHERS)))
    if drawn == 7:
        return rng.choice((-1, 1)) * rng.getrandbits(rng.randrange(1, 80))
    if drawn == 8:
        return rng.choice((-1, 1)) * 10.0 ** rng.uniform(-320, 308)
    return a_text(rng)


def a_text(rng: random.Random) -> str:
    return "".join(rng.choice(CHARACTERS) for _ in range(rng.choice((1, 3, 10, 100))))


def nested(value: Any, rng: random.Random) -> Any:
    """The value some way down in lists or tables."""
    for _ in range(rng.choice((1, 2, 5, 40, 200))):
        value = {rng.choice(("a", "source", "run", "\u2603")): value} if rng.randrange(2) else [value]
    return value
