"""Recipes that are wrong somewhere, by the real command line: each is valid, or one line and exit code 2.

What a valid recipe would start (a run, an evaluation, a study, a look at a model) is kept out; that of `launch` is its
dry run.
"""

import contextlib
import io
import os
import random
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import tomli_w
from tests.hostile.recipes import Kind, kinds, put, without
from tests.hostile.values import Written, a_text, a_value, nested

from fipo.cli import main
from fipo.telemetry.terminal import IN_LINE, LONGEST_LINE

STARTS = (
    "fipo.training.train",
    "fipo.evaluation.score.score",
    "fipo.study.study.run_lock",
    "fipo.doctor.recipe.diagnosis.problems_of",
    "fipo.doctor.recipe.cluster.described",
)
SECONDS = 5.0  # of processor time, for one recipe
PLACE = "@WRITTEN@"


class Valid(Exception):
    """The recipe was taken."""


class TooLong(BaseException):
    """It took SECONDS."""


@dataclass(frozen=True)
class Case:
    command: list[str]
    text: bytes  # of the recipe
    said: str  # what is wrong with it, for people


def cases(count: int, seed: int) -> Iterator[Case]:
    """Every key of every kind in turn, `count` of them in all."""
    every = [(kind, key) for kind in kinds() for key in kind.keys]
    for number in range(count):
        rng = random.Random(f"{seed}.{number}")
        if number % len(every) == 0:
            random.Random(f"{seed}.order.{number}").shuffle(every)
        yield _case(*every[number % len(every)], rng)


def good_ones() -> Iterator[Case]:
    """Each kind's recipe as it is."""
    for kind in kinds():
        yield Case([*kind.command, "RECIPE", *kind.after], _dumped(kind.values), "nothing is wrong")


def _case(kind: Kind, key: tuple[str, ...], rng: random.Random) -> Case:
    name, value = ".".join(key), a_value(rng)
    values, words = kind.values, list(kind.after)
    match rng.randrange(10):
        case 0:
            values, said = without(values, key), f"{name} left out"
        case 1:
            wrong = (*key[:-1], rng.choice((key[-1] + "x", key[-1].upper(), a_text(rng), "")))
            values, said = put(values, wrong, value), f"{wrong} = {value!r}"
        case 2:
            values, said = put(values, key, nested(value, rng)), f"{name} nested"
        case 3 | 4:
            text = a_text(rng) if rng.randrange(3) == 0 else _in_toml(value)
            words += [f"--{name}={text}"] if rng.randrange(2) else [f"--{name}", text]
            said = f"{name} overridden with {text!r}"
        case 5:
            other = rng.choice(kind.keys)
            values = put(put(values, key, value), other, a_value(rng))
            said = f"{name} = {value!r}, and {'.'.join(other)}"
        case _:
            values, said = put(values, key, value), f"{name} = {value!r}"
    return Case([*kind.command, "RECIPE", *words], _dumped(values), f"{' '.join(kind.command)}: {said}"[:300])


def _in_toml(value: Any) -> str:
    return _dumped({"x": value}).decode("utf-8", "surrogateescape").removeprefix("x = ").rstrip("\n") or "x"


def _dumped(values: dict[str, Any]) -> bytes:
    """TOML, with what stands as it was written in its place."""
    written: list[str] = []

    def plain(value: Any) -> Any:
        if isinstance(value, Written):
            written.append(value.text)
            return f"{PLACE}{len(written) - 1}{PLACE}"
        if isinstance(value, dict):
            return {str(name): plain(one) for name, one in value.items() if one is not None}
        return [plain(one) for one in value] if isinstance(value, list | tuple) else value

    text = tomli_w.dumps(plain(values))
    for number, one in enumerate(written):
        text = text.replace(f'"{PLACE}{number}{PLACE}"', one)
    return text.encode("utf-8", "surrogatepass")


def fuzz(folder: Path, tried: Iterable[Case], say: Callable[[str], None] = print) -> tuple[Counter[str], list[str]]:
    """How the cases ended, and what is amiss. `folder` is empty; the working directory is in it."""
    outcomes: Counter[str] = Counter()
    amiss: list[str] = []
    recipe, place = folder / "recipe.toml", folder / "here"
    place.mkdir()
    with _nothing_starts(), contextlib.chdir(place):
        for number, case in enumerate(tried, start=1):
            recipe.write_bytes(case.text)
            outcome, wrong = _outcome([str(recipe) if word == "RECIPE" else word for word in case.command])
            if left := [str(path) for path in (*place.iterdir(), *folder.iterdir()) if path not in (recipe, place)]:
                wrong = f"{wrong}; wrote {left}"
            outcomes[f"{case.command[0]} {outcome}"] += 1
            if wrong:
                amiss.append(f"case {number}: {case.said}: {wrong}")
                say(amiss[-1])
            if number % 1000 == 0:
                say(f"{number} recipes, {len(amiss)} amiss")
    return outcomes, amiss


@contextlib.contextmanager
def _nothing_starts() -> Iterator[None]:
    def taken(*_: object, **__: object) -> None:
        raise Valid

    def too_long(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGPROF, too_long)
    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ))
        for name in (
            "RAY_ADDRESS",
            "WORKING_DIR",
            "RUNTIME_ENV",
            "NNODES",
            "RAY_DATA_HOME",
            "MODEL_PATH",
            "TRAIN_FILE",
        ):
            os.environ.pop(name, None)
        for name in STARTS:
            stack.enter_context(patch(name, taken))
        yield
    signal.signal(signal.SIGPROF, before)


def _outcome(command: list[str]) -> tuple[str, str]:
    """ "valid" or "refused", and what is wrong with that, "" for nothing."""
    out, err = io.StringIO(), io.StringIO()
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(command)
    except Valid:
        return "valid", ""
    except TooLong:
        return "too long", f"more than {SECONDS:g} s"
    except BaseException as error:
        return "traceback", f"{type(error).__name__}: {error!s:.200}"
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    if code == 0:
        return "valid", ""
    said = err.getvalue()
    one_line = (
        said.startswith("fipo: ") and said.endswith("\n") and not IN_LINE.search(said[:-1]) and not out.getvalue()
    )
    if code == 2 and one_line and len(said) <= LONGEST_LINE + 1:
        return "refused", ""
    return "wrong", f"exit code {code}, {said[:500]!r}, and on stdout {out.getvalue()[:200]!r}"
