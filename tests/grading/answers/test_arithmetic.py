import ast
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fipo.grading.answers.arithmetic import MAX_CHARACTERS, MAX_DEPTH, MAX_DIGITS, evaluate, integers

VALUES = [
    ("7", 7),
    ("  7 ", 7),
    ("1+2*3", 7),
    ("(1+2)*3", 9),
    ("10-4-3", 3),
    ("2-(4-3)", 1),
    ("8/3/2", Fraction(4, 3)),
    ("8/(3/2)", Fraction(16, 3)),
    ("1/3+1/3+1/3", 1),  # exact, where floats are not
    ("8/(3-8/3)", 24),
    ("-3+5", 2),
    ("--3", 3),
    ("2*-3", -6),
    ("3\u00d74", 12),
    ("12\u00f74", 3),
    ("7\u22122", 5),
    ("9" * 20 + "*" + "9" * 20, (10**20 - 1) ** 2),
    ("(" * MAX_DEPTH + "5" + ")" * MAX_DEPTH, 5),
    ("1" + "+1" * 199, 200),
    ("-" * 300 + "1", 1),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_an_expression_has_its_exact_value(text, value):
    assert evaluate(text) == value


REFUSED = [
    ("", "not an expression"),
    ("1+", "not an expression"),
    ("(1", "not an expression"),
    ("1)", "not an expression"),
    ("1 2", "not an expression"),
    ("007", "not an expression"),
    ("3*/4", "not an expression"),
    ("5(3)", "got Call"),
    ("()", "got Tuple"),
    ("2**9", "got BinOp"),
    ("7//2", "got BinOp"),
    ("+3", "got UnaryOp"),
    ("1/0", "division by zero"),
    ("1/(2-2)", "division by zero"),
    ("9**9**9**9", "got BinOp"),
    ("1" * (MAX_DIGITS + 1), "at most 20 digits"),
    ("(" * (MAX_DEPTH + 1) + "5" + ")" * (MAX_DEPTH + 1), "at most 40 deep"),
    ("1" + "+1" * MAX_CHARACTERS, "at most 400 characters"),
    ("1.5", "must consist of"),
    ("1e9", "must consist of"),
    ("1_000", "must consist of"),
    ("1,000", "must consist of"),
    ("x", "must consist of"),
    ("0x10", "must consist of"),
    ("5!", "must consist of"),
    ("5%3", "must consist of"),
    ("2^3", "must consist of"),
    ("1<2", "must consist of"),
    ("[1]", "must consist of"),
    ("1;2", "must consist of"),
    ("1#2", "must consist of"),
    ("1\n+2", "must consist of"),
    ("1\\\n+2", "must consist of"),
    ("1\x00", "must consist of"),
    ("\u0663", "must consist of"),  # ARABIC-INDIC DIGIT THREE
    ("\uff11", "must consist of"),  # FULLWIDTH DIGIT ONE
    ("\u00b2", "must consist of"),
    ("\u202e1", "must consist of"),
    ("\ud800", "must consist of"),
    ("__import__('os')", "must consist of"),
    ("(lambda: 1)()", "must consist of"),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_anything_else_is_refused_with_the_reason(text, reason):
    with pytest.raises(ValueError) as refused:
        evaluate(text)
    assert reason in str(refused.value)


@pytest.mark.parametrize("text", ["9" * 10**6, "(" * 10**6, "1+" * 10**6, "\u22c5" * 10**6, "-" * 10**6])
def test_a_megabyte_is_refused_at_once(text):
    started = time.process_time()
    with pytest.raises(ValueError, match="at most 400 characters"):
        evaluate(text)
    assert time.process_time() - started < 0.1


def test_the_integers_of_an_expression_are_those_written_in_their_order():
    assert integers("12/-3 + (4*12)") == [12, 3, 4, 12]
    assert integers("3\u00d74") == [3, 4]


TREES = st.recursive(
    st.integers(0, 99).map(str),
    lambda inner: st.tuples(inner, st.sampled_from("+-*/"), inner).map(lambda parts: f"({''.join(parts)})"),
    max_leaves=12,
)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(TREES)
def test_the_value_is_pythons_over_fractions(text):
    exact = ast.parse(text, mode="eval")
    for node in ast.walk(exact):
        for name, child in ast.iter_fields(node):
            if isinstance(child, ast.Constant):
                setattr(node, name, ast.Call(ast.Name("Fraction", ast.Load()), [child], []))
    try:
        expected = eval(compile(ast.fix_missing_locations(exact), "", "eval"), {"Fraction": Fraction})
    except ZeroDivisionError:
        with pytest.raises(ValueError, match="division by zero"):
            evaluate(text)
    else:
        assert evaluate(text) == expected


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.text(st.sampled_from("0123456789+-*/() .e_x\n\u00d7\u0663[]"), max_size=30))
def test_any_text_has_a_value_or_is_refused(text):
    try:
        assert isinstance(evaluate(text), Fraction)
    except ValueError as error:
        assert str(error)
