"""docs/graders.md beside what the graders do."""

import re
from pathlib import Path

import pytest

from fipo.data.problem import Problem
from fipo.grading.function import FunctionGrader
from fipo.grading.outcomes import reward_of
from fipo.grading.registry import GRADERS

DOC = (Path(__file__).parents[2] / "docs" / "graders.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)


def examples():
    rows = DOC.split("| grader | answer | right | wrong | no answer |\n")[1].splitlines()[1:]
    for row in rows[: rows.index("")]:
        name, answer, *cells = (
            [part for part in re.findall(r"`([^`]*)`", cell)] for cell in row.strip("|").split(" | ")
        )
        for outcome, responses in zip(("correct", "wrong", "no_answer"), cells, strict=True):
            yield from ((name[0], answer[0], response, outcome) for response in responses)


EXAMPLES = list(examples())


@pytest.mark.parametrize(("name", "answer", "response", "outcome"), EXAMPLES)
def test_an_example_of_the_table_is_graded_as_it_says(name, answer, response, outcome):
    problem = Problem(id="1", prompt="?", answer=answer, source="test")
    assert GRADERS[name](response, problem).outcome == outcome


def test_every_built_in_grader_is_in_the_first_table():
    table = DOC.split("| name | what it reads | right is |\n")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == list(GRADERS) and len(EXAMPLES) > 20


@pytest.mark.parametrize(
    ("code", "response", "reward"),
    [(CODE[0], "so 6", 1 / 3), (CODE[1], "so 4", 1.0), (CODE[2], r"\boxed{4}", 1.1), (CODE[2], "4" * 500, -1.0)],
)
def test_the_functions_of_the_page_run(code, response, reward):
    names: dict[str, object] = {}
    exec(code, names)
    function = names[re.findall(r"^def (\w+)", code, re.MULTILINE)[-1]]
    problem = Problem(id="1", prompt="2+2=", answer="4", source="test")
    assert reward_of(FunctionGrader("mine:function", function)(response, problem)) == pytest.approx(reward)
