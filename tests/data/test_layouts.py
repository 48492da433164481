import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.helpers import PUBLISHED, dapo_row

from fipo.data.bad_rows import MalformedRow
from fipo.data.layouts import (
    LAYOUTS,
    after_hashes,
    columns_of,
    final_answer,
    last_boxed,
    layout_of,
    named_layout,
    to_problem,
    written_plainly,
)
from fipo.data.problem import Problem
from fipo.grading.answers.dapo import grade_dapo
from fipo.grading.answers.math import grade_math
from fipo.grading.answers.number import grade_number

ROWS = [(name, row, answer) for name, rows in PUBLISHED.items() for row, answer in rows]
EACH_ROW = pytest.mark.parametrize(
    ("name", "row", "answer"), ROWS, ids=[f"{name} {i}" for i, (name, *_) in enumerate(ROWS)]
)


def refusal(row):
    with pytest.raises(MalformedRow) as error:
        to_problem(row, "here")
    assert "\n" not in str(error.value)
    return str(error.value)


# Recognition


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("openai/gsm8k", "gsm8k"),
        ("opencompass/AIME2025", "gsm8k"),
        ("DigitalLearningGmbH/MATH-lighteval", "math"),
        ("HuggingFaceH4/MATH-500", "aime"),
        ("HuggingFaceH4/aime_2024", "aime"),
        ("math-ai/aime25", "aime"),
        ("Maxwell-Jia/AIME_2024", "aime_2024"),
    ],
)
def test_a_published_dataset_is_recognised_by_its_columns(name, layout):
    assert layout_of(tuple(PUBLISHED[name][0][0])).name == layout


def test_the_schema_of_dapo_is_a_layout_whatever_else_is_in_the_file():
    assert layout_of(tuple(dapo_row(1))).name == "dapo"
    assert layout_of((*dapo_row(1), "solution", "source_prompt")).name == "dapo"  # open-r1/DAPO-Math-17k-Processed


@EACH_ROW
def test_the_columns_that_are_read_are_of_the_same_layout_and_give_the_same_problem(name, row, answer):
    read = {column: row[column] for column in columns_of(row)}
    assert layout_of(tuple(read)) is layout_of(tuple(row))
    assert to_problem(read, name) == to_problem(row, name)


def test_of_a_file_with_answers_no_solution_is_read():
    assert columns_of(PUBLISHED["HuggingFaceH4/MATH-500"][0][0]) == ("problem", "answer", "unique_id")
    assert columns_of(dapo_row(1)) == ("prompt", "reward_model", "data_source", "extra_info")


def test_columns_of_no_layout_are_refused_with_those_that_are_known():
    known = "; ".join(f"{layout.name}: {', '.join(layout.needed)}" for layout in LAYOUTS)
    assert refusal({"Question": "2+2=", "Answer": "4"}) == (
        f"must have the columns of a known layout ({known}), or be told them "
        '(columns = { prompt = "...", answer = "..." }), got \'Question, Answer\''
    )
    assert refusal({}).endswith("), got ''")


def test_columns_of_two_layouts_are_refused_with_both():
    row = {"question": "2+2=", "problem": "2+2=", "answer": "4"}
    assert refusal(row) == "columns must fit one layout, got 'question, problem, answer': gsm8k and aime"


@given(st.sets(st.sampled_from([name for layout in LAYOUTS for name in (*layout.needed, *layout.optional)])))
def test_any_columns_are_of_one_layout_or_refused_and_those_that_are_read_stay_of_it(columns):
    try:
        layout = layout_of(tuple(columns))
    except MalformedRow:
        return
    assert layout_of(columns_of(tuple(columns))) is layout


def test_rows_with_a_prompt_and_an_answer_are_a_layout_and_those_of_others_stay_of_them():
    assert layout_of(("prompt", "answer")).name == "plain"
    assert layout_of(("prompt", "question", "answer")).name == "gsm8k"
    assert layout_of(("prompt", "answer", "reward_model")).name == "dapo"
    problem = to_problem({"prompt": "2+2=", "answer": 4, "id": 7}, "mine")
    assert (problem.prompt, problem.answer, problem.id) == ("2+2=", "4", "mine/7")


# Columns that a recipe names


COLUMNS = {"prompt": "Aufgabe", "answer": "Loesung"}
ROW = {"Aufgabe": "2+2=", "Loesung": "It is \\boxed{4}.", "Stufe": [1, 2], "nr": "a7"}


def test_columns_that_a_recipe_names_are_read_and_no_others():
    layout = named_layout(COLUMNS)
    problem = to_problem(ROW, "mine", layout)
    assert (problem.prompt, problem.answer, problem.metadata) == ("2+2=", "4", {})
    assert columns_of(ROW, layout) == ("Aufgabe", "Loesung")


def test_further_columns_are_for_the_grader_and_an_id_names_the_problem():
    layout = named_layout(COLUMNS | {"level": "Stufe", "solution": "Loesung", "id": "nr"})
    problem = to_problem(ROW, "mine", layout)
    assert (problem.id, problem.metadata) == ("mine/a7", {"level": [1, 2], "solution": "It is \\boxed{4}."})
    assert set(columns_of(ROW, layout)) == set(ROW)


def test_a_column_that_is_not_there_is_named_with_those_that_are():
    with pytest.raises(MalformedRow) as error:
        to_problem({"Aufgabe": "2+2=", "x": 1}, "mine", named_layout(COLUMNS))
    assert str(error.value) == "must have the column 'Loesung' that the recipe names, got 'Aufgabe, x'"


@pytest.mark.parametrize(
    ("text", "answer"),
    [("4", "4"), ("so \\boxed{4} it is", "4"), ("2+2=4\n#### 1,004", " 1004"), ("x = 3 or x = 4", "x = 3 or x = 4")],
)
def test_the_final_answer_of_a_text_is_boxed_or_behind_hashes_or_all_of_it(text, answer):
    assert final_answer(text) == answer


# Problems


@EACH_ROW
def test_a_published_row_gives_its_question_and_its_final_answer(name, row, answer):
    problem = to_problem(row, name)
    question = row[layout_of(tuple(row)).needed[0]]
    assert (problem.prompt, problem.answer, problem.source) == (question, answer, name)
    assert problem.id.startswith(f"{name}/")


@EACH_ROW
def test_the_right_answer_of_every_layout_is_graded_correct_however_it_is_usually_written(name, row, answer):
    problem = to_problem(row, name)
    for response in (f"So it is $\\boxed{{{answer}}}$.", f"Thus:\nAnswer: ${answer}$"):
        assert grade_math(response, problem).outcome == "correct", response
    assert grade_math("So it is $\\boxed{999999}$.", problem).outcome == "wrong"
    for response in (f"Thus:\nAnswer: {answer}", f"Thus:\nAnswer: ${answer}$"):
        assert grade_dapo(response, problem).outcome == "correct", response
    assert grade_dapo("Answer: 999999", problem).outcome == "wrong"
    if answer.lstrip("-").isdigit():
        assert grade_number(f"It is {int(answer):,}.", problem).outcome == "correct"


def test_a_row_is_named_by_its_id_or_else_by_its_question():
    assert to_problem(PUBLISHED["Maxwell-Jia/AIME_2024"][0][0], "x").id == "x/2024-I-1"
    assert to_problem(PUBLISHED["HuggingFaceH4/aime_2024"][0][0], "x").id == "x/60"
    assert to_problem(PUBLISHED["HuggingFaceH4/MATH-500"][0][0], "x").id == "x/test/algebra/1.json"
    first, other = (row for row, _ in PUBLISHED["openai/gsm8k"])
    assert to_problem(first, "x").id == to_problem(dict(first), "x").id != to_problem(other, "x").id


MALFORMED = [
    ([1], "a row must be an object, got list"),
    ({"question": None, "answer": "#### 4"}, "question must be a text or a list of messages, got None"),
    ({"question": " ", "answer": "#### 4"}, "prompt must not be empty"),
    ({"question": "2+2=", "answer": None}, "answer must be a text or a number, got None"),
    (
        {"question": "2+2=", "answer": "It is 4"},
        "answer must end in '#### ' and the final answer, or be that alone, got 'It is 4'",
    ),
    ({"question": "2+2=", "answer": "2+2=4\n#### "}, r"answer must not give an empty answer, got '2+2=4\n#### '"),
    ({"problem": "2+2=", "solution": "It is 4."}, "solution must have a \\boxed answer, got 'It is 4.'"),
    (
        {"problem": "2+2=", "solution": "It is \\boxed{4"},
        r"solution must close the braces of its \boxed answer, got '\\boxed{4'",
    ),
    ({"problem": "2+2=", "solution": "\\boxed{}"}, r"solution must not give an empty answer, got '\\boxed{}'"),
    ({"problem": "2+2=", "solution": "\\boxed"}, r"solution must not give an empty answer, got '\\boxed'"),
    ({"problem": "2+2=", "answer": ""}, "answer must not be empty"),
    ({"Problem": "2+2=", "Answer": True}, "Answer must be a text or a number, got True"),
    ({"problem": "2+2=", "answer": 4, "id": 0.5}, "id must be a text or a whole number, got 0.5"),
    ({"problem": "2+2=", "answer": "\ud800"}, r"text must have a UTF-8 form, got the lone surrogate '\ud800'"),
]


@pytest.mark.parametrize(
    ("row", "reason"), MALFORMED, ids=[f"{i} {reason[:40]}" for i, (_, reason) in enumerate(MALFORMED)]
)
def test_a_row_that_does_not_say_its_answer_is_refused_with_the_reason(row, reason):
    assert refusal(row) == reason


# Answers


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("$\\boxed{5}$", "5"),
        ("First \\boxed{1}, then \\boxed{2}.", "2"),
        ("$\\boxed{\\frac{1}{\\sqrt{2}}}$ and {more}", "\\frac{1}{\\sqrt{2}}"),
        ("$\\boxed {7}$", "7"),
        ("so $x = \\boxed 5$.", "5"),
        ("\\[\\boxed 25\\]", "25"),
        ("the answer is \\boxed 3.", "3"),
        ("$\\fbox{9}$", "9"),
        ("\\boxed{1} or rather \\fbox{2}", "2"),
        ("$\\boxed{\\left\\{1, 2\\right.}$", "\\left\\{1, 2\\right."),
        ("$\\boxed{\\text{(B)}}$", "\\text{(B)}"),
        ("\\boxed{8} is not \\boxedtimes{9}", "8"),
        ("$\\boxed{\\$32,\\!348}$", "32348"),
    ],
)
def test_the_answer_of_a_solution_is_what_stands_in_its_last_box(solution, answer):
    assert last_boxed(solution) == answer


@given(
    st.recursive(
        st.text("ab \\{}"[:3], max_size=3),
        lambda inner: inner.map("{{{}}}".format) | st.tuples(inner, inner).map("".join),
    )
)
def test_a_box_with_balanced_braces_is_read_whole(inside):
    assert last_boxed(f"\\boxed{{0}} $\\boxed{{{inside}}}$ so }}{{") == inside.strip()


@pytest.mark.parametrize(
    ("answer", "final"),
    [("#### 5", " 5"), ("a #### b\n#### 1,234,567", " 1234567"), ("70", "70"), (" 336^\\circ\n", " 336^\\circ\n")],
)
def test_the_answer_after_hashes_loses_the_commas_of_thousands(answer, final):
    assert after_hashes(answer) == final


@pytest.mark.parametrize(
    ("published", "written"),
    [
        ("033", "33"),
        ("000", "0"),
        ("0", "0"),
        ("0.5", "0.5"),
        ("0123", "0123"),
        ("11,\\! 111,\\! 100", "11111100"),
        ("(1,\\!2)", "(1,\\!2)"),
    ],
)
def test_a_number_is_written_plainly(published, written):
    assert written_plainly(published) == written


JSON = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["#### 4", "\\boxed{"])
)


@given(st.dictionaries(st.sampled_from([name for layout in LAYOUTS for name in layout.needed] + ["id"]), JSON))
def test_any_row_is_a_problem_with_a_question_and_an_answer_or_is_refused(row):
    try:
        problem = to_problem(row, "x")
    except MalformedRow as error:
        assert "\n" not in str(error)
    else:
        assert isinstance(problem, Problem) and problem.text.strip() and problem.answer.strip()
        json.dumps([problem.text, problem.answer, problem.id]).encode()
