import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fipo.data.problem import Problem
from fipo.grading.registry import GRADERS


def problem(answer):
    return Problem(id="test/1", prompt="?", answer=answer, source="test")


TEXT = ("number", "exact", "dapo")  # test_hostile.py has those that compute
HOSTILE = {
    "a huge number": "1" * 100_000,
    "a huge number with separators": ",111" * 25_000,
    "many numbers": "1 " * 100_000,
    "many commas": "1," * 100_000,
    "dots and digits": "1.1" * 30_000,
    "signs": "-" * 100_000,
    "brackets": "(" * 100_000,
    "spaces after the word": "answer" + " " * 100_000,
    "many answers": "Answer:" * 30_000,
    "dollars": "Answer: " + "$" * 100_000,
    "open braces": "Answer: " + "\\text{" * 20_000,
    "nested boxes": "Answer: " + "\\boxed{" * 40 + "}",
    "control characters": "\x00\x1b\r" * 30_000,
    "lone surrogates": "\ud800" * 100_000,
}


@pytest.mark.parametrize("response", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("grader", TEXT)
def test_a_hostile_response_is_graded_quickly_and_is_not_correct(grader, response):
    started = time.process_time()
    grade = GRADERS[grader](response, problem("34"))
    assert time.process_time() - started < 2
    assert not grade.correct


@pytest.mark.parametrize("grader", TEXT)
def test_a_response_that_is_code_is_not_run(grader, tmp_path):
    trace = tmp_path / "trace"
    code = f"__import__('pathlib').Path({str(trace)!r}).touch()"
    for response in (code, f"Answer: {code}", f"\\boxed{{{code}}}"):
        GRADERS[grader](response, problem("34"))
    assert not trace.exists()


NASTY = st.text(
    st.sampled_from("0159-+.,=#$\\{}()[] \n\r\t\x00\u0663\u00b2\u2028\ud800aAnswer:frac sqrt text"), max_size=60
)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(response=NASTY, answer=NASTY, start=st.sampled_from(["", "Answer:"]))
def test_any_text_gets_a_grade_that_agrees_with_itself(response, answer, start):
    for grader in (GRADERS[name] for name in TEXT):
        grade = grader.grade(start + response, problem(answer))
        assert grade.outcome in ("correct", "wrong", "no_answer")
        assert grade.correct == (grade.outcome == "correct")
        assert (grade.answer is None) == (grade.outcome == "no_answer")


@pytest.mark.parametrize("name", GRADERS)
def test_a_grader_says_what_it_cannot_grade_and_raises_the_same_where_it_is_asked_to(name):
    if name == "reasoning_gym":
        pytest.importorskip(name)
    reason = GRADERS[name].readable(problem(" "))
    assert reason.startswith(f'grader "{name}" needs ')
    with pytest.raises(ValueError, match=r'grader "\w+" needs ') as raised:
        GRADERS[name]("34", problem(" "))
    assert str(raised.value) == reason
