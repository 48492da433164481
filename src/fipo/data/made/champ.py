r"""CHAMP: 270 competition problems that come with the champ-dataset package (Mao, Kim and Zhou 2024, arXiv 2401.06961).

Its answers are phrases with plain formulas, such as `2*C(10, 5), or equivalently 504`. Here each becomes the formula
alone, in latex that `math` grading reads. Of the 270 problems 238 are used: an answer that is a sentence (`The sequence
is not periodic`), or that could be compared as a text alone (`x(x-1)...(x-2022)`), decides nothing.
"""

import json
import re
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.extras import install_hint

FILE = "champ_dataset/dataset_files/v0.json"
PHRASES = [  # what is said around an answer
    (r" \((?:i\.e\.|no).*\)$", ""),  # 0 (i.e., no such values)
    (r".*, or (?:equivalently|an equivalent form such as) (.*)", r"\1"),
    (r", or approximately .*", ""),
    (r"(.*) is the only possible value", r"\1"),
    (r"The (?:limit exists and is equal to|only possible value for the limit is) (.*)", r"\1"),
    (r"(?:At (?:most|least) )?(\w+) (?:integer-valued )?(?:inequalities|number|pairs|roots|times|values|zeros)", r"\1"),
]
LATEX = [
    ("\u2212", "-"),
    (r"f\(x\)=", ""),
    (r"([a-z])=(\d+) and \1=(\d+)", r"\2, \3"),  # x=16 and x=81
    (r"[a-z]=±(\d+)", r"\1, -\1"),
    (r",? (?:and|or) ", ", "),
    (r"sqrt\(([^()]*)\)", r"\\sqrt{\1}"),
    (r"floor\(([^()]*)\)", r"{\\lfloor \1 \\rfloor}"),
    (r"C\(([^(),]*), ([^()]*)\)", r"\\binom{\1}{\2}"),
    (r"sum_\(([^()]*)\)", r"\\sum_{\1}"),
    (r"\^\(([^()]*)\)", r"^{\1}"),
]
POINT = re.compile(r"\(?([a-z]=-?\d+(?:, [a-z]=-?\d+)+)\)?")
WORD = r"(?<![a-zA-Z])[a-zA-Z]{1,2}(?![a-zA-Z])"  # variables
FORMULA = re.compile(rf"(?!.*=.*=)(?:[-+*/^=()!,\[\]{{}}_ 0-9]|\\[a-z]+|{WORD})+")


def champ_problems() -> list[Problem]:
    """The problems whose answer can be compared, in the package's order. Raises UserError if it is not installed."""
    try:
        path = Path(str(distribution("champ-dataset").locate_file(FILE)))
    except PackageNotFoundError:
        raise UserError(f'source "champ" needs the extra: {install_hint("champ")}') from None
    rows: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["problems"]
    answers = {name: comparable_answer(row["_answer"]) for name, row in rows.items()}
    return [
        Problem(id=f"champ/{name}", prompt=rows[name]["_text"], answer=answer, source="champ")
        for name, answer in answers.items()
        if answer is not None
    ]


def comparable_answer(phrase: str) -> str | None:
    """The answer that a phrase of CHAMP gives: `Yes`, `No` or latex; None if it is neither."""
    for pattern, replacement in PHRASES:
        phrase = re.sub(pattern, replacement, phrase)
    if phrase in ("Yes", "No"):
        return phrase
    formula = POINT.sub(lambda values: f"({', '.join(re.findall(r'-?[0-9]+', values[1]))})", phrase)
    for pattern, replacement in LATEX:
        formula = re.sub(pattern, replacement, formula)
    return formula if FORMULA.fullmatch(formula) else None
