import pytest

from fipo.grading.latex.formulas import Formulas
from fipo.grading.latex.parser import parse
from fipo.grading.latex.tokens import tokens_of

EQUAL = [
    ("\\tan^2 t + 1", "\\sec^2 t"),
    ("\\sqrt{3+2\\sqrt{2}}", "1+\\sqrt{2}"),
    ("\\log_2 3", "\\frac{\\ln 3}{\\ln 2}"),
    ("\\ln(xy)", "\\ln x + \\ln y"),
    ("(-1)^n", "\\cos(\\pi n)"),
    ("0", "\\sin\\pi"),
    ("n!/(2n)", "\\frac{(n-1)!}{2}"),
    ("\\sum_{k=1}^n k", "n(n+1)/2"),
    ("\\begin{pmatrix}1&2\\end{pmatrix}", "2\\begin{pmatrix}\\frac{1}{2}&1\\end{pmatrix}"),
]
OTHER = [
    ("\\sqrt{2}+10^{-40}", "\\sqrt{2}"),
    ("e^{-1000}", "e^{-1001}"),
    ("\\frac{1}{1003!}", "\\frac{1}{1005!}"),
    ("|x|", "x"),
    ("\\sqrt{x^2}", "x"),
    ("1/0", "34"),
    ("e^{e^{e^{e^e}}}", "34"),
]


@pytest.fixture(scope="module")
def formulas():
    return Formulas()


def formula(text):
    return parse(tokens_of(text))


@pytest.mark.parametrize(("a", "b"), EQUAL)
def test_one_function_in_two_forms_is_equal(a, b, formulas):
    formulas.begin()
    assert formulas.equal(formula(a), formula(b))


@pytest.mark.parametrize(("a", "b"), OTHER)
def test_however_small_a_difference_is_it_is_seen(a, b, formulas):
    formulas.begin()
    assert not formulas.equal(formula(a), formula(b))


def test_equations_are_one_up_to_a_factor(formulas):
    formulas.begin()
    line = formula("3x+6y-4")
    assert formulas.proportional(line, formula("-x-2y+\\frac{4}{3}"))
    assert not formulas.proportional(line, formula("-x-2y+\\frac{4}{3}"), positive=True)
    assert not formulas.proportional(line, formula("-x-2y-\\frac{4}{3}"))
