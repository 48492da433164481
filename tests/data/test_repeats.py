import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fipo.data.bad_rows import BadRows
from fipo.data.problem import Placed, Problem
from fipo.data.repeats import first_of_each, merge_repeats, without
from fipo.data.templates import TEMPLATES
from fipo.errors import UserError


def problem(text, answer="4", name=None):
    return Problem(id=name or f"test/{text}", prompt=text, answer=answer, source="test")


def merged(*problems):
    """(problems that stay, repeats, what was said) of rows 1, 2, 3..."""
    said = []
    rows = [Placed(problem=each, where=f"row {number}") for number, each in enumerate(problems, start=1)]
    result = merge_repeats(rows, BadRows(1000, said.append))
    return [placed.problem for placed in result.problems], result.repeats, said


def test_repeats_are_merged_at_their_first_place_and_counted():
    first, second = problem("2+2="), problem("1+3=")
    assert merged(first, second, problem("2+2="), problem("1+3="), first) == ([first, second], 3, [])


def test_what_stays_keeps_the_place_of_its_first_row():
    rows = [Placed(problem=problem(text), where=f"row {n}") for n, text in enumerate(["a", "a", "b", "a"], start=1)]
    assert [placed.where for placed in merge_repeats(rows, BadRows(0, print)).problems] == ["row 1", "row 3"]


def test_a_repeat_under_another_name_is_still_a_repeat():
    assert merged(problem("2+2=", name="a"), problem("2+2=", name="b")) == ([problem("2+2=", name="a")], 1, [])


def test_a_chat_and_a_text_with_the_same_words_are_one_question():
    chat = Problem(id="chat", prompt=[{"role": "user", "content": "2+2="}], answer="4", source="test")
    assert merged(chat, problem("2+2=")) == ([chat], 1, [])


def test_of_a_question_with_two_answers_neither_row_is_used_and_both_are_named():
    other = problem("1+3=")
    stays, repeats, said = merged(problem("2+2=", "4"), other, problem("2+2=", "5", "b"), problem("2+2=", "4"))
    assert (stays, repeats) == ([other], 1)
    assert said == ["row 3: a question must have one answer, got '5' here and '4' in row 1: neither is used; left out"]


def test_of_an_id_with_two_questions_neither_row_is_used_and_both_are_named():
    other = problem("5+5=")
    stays, repeats, said = merged(problem("2+2=", name="a/1"), other, problem("1+3=", name="a/1"))
    assert (stays, repeats) == ([other], 0)
    assert said == ["row 3: an id must name one question, got 'a/1' here and in row 1: neither is used; left out"]


def test_an_id_is_traced_to_the_row_that_carries_it_even_if_that_is_a_repeat():
    _, _, said = merged(problem("2+2=", name="a"), problem("2+2=", name="b"), problem("1+3=", name="b"))
    assert said == ["row 3: an id must name one question, got 'b' here and in row 2: neither is used; left out"]


def test_a_contradiction_beyond_the_budget_stops_the_run():
    rows = [Placed(problem=problem("2+2=", answer), where=f"row {answer}") for answer in "45"]
    with pytest.raises(UserError, match=r"^row 5: a question must have one answer, got '5' here and '4' in row 4"):
        merge_repeats(rows, BadRows(0, print))


@given(st.lists(st.tuples(st.sampled_from("pqr"), st.sampled_from("12"), st.sampled_from("ijkl")), max_size=12))
def test_every_row_is_a_problem_a_repeat_malformed_or_contradicted(rows):
    problems = [problem(text, answer, name) for text, answer, name in rows]
    stays, repeats, said = merged(*problems)
    contradicted = {each.text for each in problems} - {each.text for each in stays}
    firsts = len(stays) + repeats + len(said)
    assert firsts <= len(problems) <= firsts + len(contradicted)
    assert len({each.text for each in stays}) == len({each.id for each in stays}) == len(stays)
    for each in stays:  # nothing that stays is contradicted by a row that is not left out as malformed
        assert each == next(other for other in problems if other.text == each.text and other.id == each.id)
        assert {other.answer for other in problems if other.text == each.text and other.id == each.id} == {each.answer}
    if not said:
        assert firsts == len(problems) and not contradicted


@pytest.mark.parametrize("names", [10, 5000])
def test_memory_grows_with_the_questions_and_ids_and_not_with_the_text_of_the_rows(names):
    def rows(count):
        for number in range(count):
            text = f"question {number % 10} " + "x" * 10_000
            yield Placed(problem=problem(text, name=f"id {number % names}"), where=f"row {number}")

    tracemalloc.start()
    assert merge_repeats(rows(5000), BadRows(0, print)).repeats == 4990
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000 + 500 * names  # 50 MB of text went through


def test_a_generators_answers_do_not_contradict_each_other():
    first, second = problem("reach 24", "4*6"), problem("2+2=")
    result = first_of_each([first, second, problem("reach 24", "6*4")])
    assert [placed.problem for placed in result.problems] == [first, second]
    assert [placed.where for placed in result.problems] == ["test, entry 0", "test, entry 1"]
    assert result.repeats == 1


def test_held_out_questions_leave_training_whatever_their_id():
    kept = problem("1+3=")
    assert without([problem("2+2="), kept, problem("3+1=")], [problem("2+2=", name="other"), problem("3+1=")]) == [kept]


def test_a_held_out_question_leaves_training_whatever_its_template():
    before, after = TEMPLATES["dapo"]
    held_out = Problem(id="a", prompt=[{"role": "user", "content": f"{before}2+2={after}"}], answer="4", source="dapo")
    kept = problem("1+3=")
    assert without([problem("2+2="), problem(f"2+2={TEMPLATES['boxed'][1]}"), kept], [held_out]) == [kept]
    assert without([held_out, kept], [problem(" 2+2=\n")]) == [kept]
