import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fipo.data.problem import Problem
from fipo.grading.registry import GRADERS


def problem(answer):
    return Problem(id="test/1", prompt="?", answer=answer, source="test")


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
@pytest.mark.parametrize("grader", GRADERS)
def test_a_hostile_response_is_graded_quickly_and_is_not_correct(grader, response):
    started = time.process_time()
    grade = GRADERS[grader](response, problem("34"))
    assert time.process_time() - started < 2
    assert not grade.correct


@pytest.mark.parametrize("grader", GRADERS)
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
    for grader in GRADERS.values():
        grade = grader(start + response, problem(answer))
        assert grade.outcome in ("correct", "wrong", "no_answer")
        assert grade.correct == (grade.outcome == "correct")
        assert (grade.answer is None) == (grade.outcome == "no_answer")
