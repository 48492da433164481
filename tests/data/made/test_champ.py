import re
from collections import Counter
from importlib.metadata import distribution

import pytest

from fipo.data.bad_rows import BadRows
from fipo.data.made.champ import champ_problems, comparable_answer
from fipo.data.problem import Problem
from fipo.data.sources import Champ, load_problems
from fipo.data.templates import TEMPLATES
from fipo.errors import UserError
from fipo.extras import install_hint
from fipo.grading.answers.math import grade_math

# What a model would write, for every answer that is neither a whole number nor a yes or no.
ALSO_RIGHT = {
    "2^floor(n/2)*floor(n/2)!": r"2^{\lfloor \frac{n}{2} \rfloor} \cdot \lfloor \frac{n}{2} \rfloor!",
    "2^(n-1)": r"\frac{2^n}{2}",
    "n": "n",
    "n(n-3)/2": r"\frac{n^2-3n}{2}",
    "(n+1)^(n-1)": r"(n+1)^{n-1}",
    "4^n": "2^{2n}",
    "5/14, or approximately 35.7%": r"\frac{5}{14}",
    "C(n+1, 2m+1)": r"\binom{n+1}{2m+1}",
    "n(n+1)*2^(n-2)": r"2^{n-2} n(n+1)",
    "(n+1)/(r+1)": r"\frac{n+1}{r+1}",
    "(4^n+2^n)/2": r"2^{n-1}(2^n+1)",
    "n!": "n!",
    "C(n, 4), or an equivalent form such as n(n-1)(n-2)(n-3)/4!": r"\binom{n}{4}",
    "sum_(i=1)^n i^3, or equivalently (n(n+1)/2)^2": r"\frac{n^2(n+1)^2}{4}",
    "(n-k+3)*2^(n-k-2)": r"(n-k+3) \cdot 2^{n-k-2}",
    "(2n)!/(2^n*n!)": r"\frac{(2n)!}{n! \, 2^n}",
    "n!/(2n)": r"\frac{(n-1)!}{2}",
    "sum_(i=1)^n i^2, or equivalently n(n+1)(2n+1)/6": r"\frac{n(n+1)(2n+1)}{6}",
    "[-1, 1]": "[-1,1]",
    "1/2": "0.5",
    "1/3": r"\frac13",
    "2^n": "2^n",
    "sum_(k=1)^n 1/k": r"\sum_{k=1}^{n} \frac{1}{k}",
    "3/2": r"\frac{3}{2}",
    "1-1/2^(1/n)": "1-2^{-1/n}",
    "sqrt(3)/3, or equivalently 1/sqrt(3)": r"\frac{\sqrt{3}}{3}",
    "1/(n+1)": r"\frac{1}{n+1}",
    "2^(m+1)": r"2 \cdot 2^m",
    "n/(n-1)": r"\frac{n}{n-1}",
    "n^2/(n-1)": r"\frac{n^2}{n-1}",
    "sqrt(2)": r"\sqrt2",
    "sqrt(3)": r"\sqrt{3}",
    "2^n/(n+1)": r"\frac{2^n}{n+1}",
    "1/n": r"\frac{1}{n}",
    "376 and 625": r"625, 376",
    "x=6, y=5": "(x,y)=(6,5)",
    "9642 and 87531": r"\{87531, 9642\}",
    "n times": "n",
    "x=2, y=1": "x=2, y=1",
    "1 and 19": "1, 19",
    "x=0, y=2 and x=9, y=11": "(0,2),(9,11)",
    "1, 4 and 9": r"\{1,4,9\}",
    "p=3, q=2 and p=5, q=3": "(3,2), (5,3)",
    "x=1, y=1 and x=3, y=2": "(x,y)=(1,1),(3,2)",
    "1 and 3": "1, 3",
    "(x=8, y=2), (x=2, y=8)": "(2,8),(8,2)",
    "(x=1, y=2) and (x=2, y=1)": "(1,2),(2,1)",
    "-2x+2": "2-2x",
    "a=3, b=-4": "(3,-4)",
    "(x^2+x+1)(x^2-x+1)": "(x^2-x+1)(x^2+x+1)",
    "f(x)=0 or f(x)=1": "0, 1",
    "k-2 (i.e., all of them)": "k-2",
    "(x^2+x+1)(x^2-x+1)(x^4-x^2+1)": "(x^4-x^2+1)(x^2-x+1)(x^2+x+1)",
    "(x+y+z)(x^2+y^2+z^2-xy-yz-xz)": "(x+y+z)(x^2+y^2+z^2-xy-yz-zx)",
    "f(x)=0": "f(x)=0",
    "a=3, b=-7, c=4": "(a,b,c)=(3,-7,4)",
    "x=±1": r"\pm 1",
    "((-1)^(n+1)+n+1)/(n+2) (i.e., 1 if for odd n, and n/(n+2) for even n)": r"\frac{n+1+(-1)^{n+1}}{n+2}",
    "(x+1)(x-1)(x^2+1)(x^3\u2212x^2+1)(x^2+x+1)": "(x-1)(x+1)(x^2+1)(x^2+x+1)(x^3-x^2+1)",
    "(a^3+2b)/(3a)": r"\frac{a^3+2b}{3a}",
    "x=16 and x=81": "x = 16, 81",
    "x^3-1": "x^3-1",
    "1/18": r"\frac{1}{18}",
    "The only possible value for the limit is sqrt(a)": r"\sqrt{a}",
    "-1/2": r"-\frac{1}{2}",
    "The limit exists and is equal to 2/3": r"\frac{2}{3}",
    "The limit exists and is equal to (a+3b)/2": r"\frac{a+3b}{2}",
    "2^997": "2^{997}",
    "The limit exists and is equal to (1+sqrt(4a+1))/2": r"\frac{1+\sqrt{1+4a}}{2}",
}


def problem(answer):
    return Problem(id="champ/1", prompt="What?", answer=answer, source="champ")


@pytest.fixture(scope="module")
def champ():
    try:
        distribution("champ-dataset")
    except Exception:
        pytest.skip("needs champ-dataset")
    return champ_problems()


def test_238_of_the_270_problems_have_an_answer_that_can_be_compared(champ):
    kinds = Counter(
        "yes or no"
        if each.answer in ("Yes", "No")
        else "whole number"
        if re.fullmatch(r"-?\d+", each.answer)
        else "formula"
        for each in champ
    )
    assert kinds == {"whole number": 135, "formula": 70, "yes or no": 33}
    assert len({each.id for each in champ}) == len({each.text for each in champ}) == 238


def test_every_answer_in_a_box_is_graded_correct_and_another_one_wrong(champ):
    for each in champ:
        assert grade_math(f"So it is $\\boxed{{{each.answer}}}$.", each).outcome == "correct", each
        assert grade_math("So it is $\\boxed{123454321}$.", each).outcome == "wrong", each


def test_every_formula_is_also_graded_correct_in_another_form(champ):
    formulas = {each.answer for each in champ if not re.fullmatch(r"-?\d+|Yes|No", each.answer)}
    assert formulas <= {comparable_answer(phrase) for phrase in ALSO_RIGHT}


@pytest.mark.parametrize(("phrase", "response"), ALSO_RIGHT.items())
def test_a_formula_is_graded_correct_as_a_model_would_write_it(phrase, response):
    assert grade_math(f"\\boxed{{{response}}}", problem(comparable_answer(phrase))).outcome == "correct"


@pytest.mark.parametrize(
    ("phrase", "answer"),
    [
        ("239", "239"),
        ("2*C(10, 5), or equivalently 504", "504"),
        ("0 (i.e., no such values)", "0"),
        ("0 (none of the values)", "0"),
        ("-3 is the only possible value", "-3"),
        ("The only possible value for the limit is 4", "4"),
        ("At least 1 number", "1"),
        ("At most 0 integer-valued zeros (i.e., no integer zeros)", "0"),
        ("98 values", "98"),
        ("Yes", "Yes"),
        ("No", "No"),
        ("No integer solutions", None),
        ("Infinitely many solutions", None),
        ("Monotonically increasing", None),
        ("x(x-1)(x-2)...(x-2022)", None),
        ("x(n)<y(n-1) for all n≥3", None),
        ("x=y=0", None),
        ("Exactly one", None),
        ("Yes, and the sequence is 1/2^3, 1/2^6, 1/2^9, ...", None),
    ],
)
def test_a_phrase_gives_the_answer_in_it_or_none(phrase, answer):
    assert comparable_answer(phrase) == answer


@pytest.mark.parametrize(("answer", "other"), [("Yes", "No"), ("No", "Yes")])
def test_yes_and_no_are_told_apart(answer, other):
    for written in (answer, f"\\text{{{answer}}}", answer.lower(), f"\\textbf{{{answer}}}"):
        assert grade_math(f"\\boxed{{{written}}}", problem(answer)).outcome == "correct", written
    assert grade_math(f"\\boxed{{\\text{{{other}}}}}", problem(answer)).outcome == "wrong"


def test_the_source_puts_each_question_into_its_template(champ):
    merged = load_problems(Champ(source="champ", template="boxed"), "eval", 0, BadRows(0, print))
    before, after = TEMPLATES["boxed"]
    assert [placed.problem.prompt for placed in merged.problems] == [f"{before}{each.prompt}{after}" for each in champ]
    assert (merged.repeats, merged.problems[0].problem.id) == (0, "champ/P_Combinatorics_1")


def test_without_the_package_the_message_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr("sys.path", [])
    with pytest.raises(UserError) as error:
        champ_problems()
    assert str(error.value) == f'source "champ" needs the extra: {install_hint("champ")}'
