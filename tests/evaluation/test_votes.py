import pytest

from fipo.data.problem import Problem
from fipo.evaluation import cons_at_k
from fipo.evaluation.votes import votes_of
from fipo.grading.grade import Grade
from fipo.grading.workers.pool import GraderPool


def problem(answer="4"):
    return Problem(id=f"test/{answer}", prompt="?", answer=answer, source="test")


def right(answer):
    return Grade(outcome="correct", answer=answer)


def wrong(answer):
    return Grade(outcome="wrong", answer=answer)


NONE = Grade(outcome="no_answer", answer=None)


def refuse(_):
    raise AssertionError("nothing is to be compared")


def test_all_correct_answers_are_one_and_equal_wrong_texts_are():
    row = [right("4"), wrong("5"), right("4.0"), wrong("5"), NONE, right(None)]
    assert votes_of([row], refuse) == [[0, 1, 0, 1, None, 0]]


def test_an_answer_that_failed_to_be_graded_or_compared_has_no_vote():
    row = [Grade(outcome="timeout", answer=None, reason="slow"), wrong(""), wrong(""), right("")]
    assert votes_of([row], refuse) == [[None, None, None, 0]]


@pytest.fixture(scope="module")
def pool():
    with GraderPool("math", workers=1, deadline_seconds=10, memory_mib=2048) as pool:
        yield pool


def test_answers_of_equal_value_vote_together(pool):
    texts = [
        "$\\frac{1}{2}$",
        "\\boxed{1/3}",
        "\\boxed{0.5}",
        "\\boxed{\\frac{1}{3}}",
        "\\boxed{7}",
        "\\boxed{\\frac{2}{6}}",
        "hm",
    ]
    half = problem("\\frac{1}{2}")
    grades = pool.grade([(text, half) for text in texts])
    votes = votes_of([grades], pool.same)
    assert votes == [[0, 1, 0, 1, 2, 1, None]]
    correct = [[grade.correct for grade in grades]]
    assert cons_at_k(votes, correct) == 0.0  # 1/3 has three votes


def test_every_problem_has_its_own_votes(pool):
    rows = [[right("4"), wrong("1/2"), wrong("0.5")], [wrong("0.5"), right("4"), wrong("x+1"), wrong("1+x")]]
    assert votes_of(rows, pool.same) == [[0, 1, 1], [1, 0, 2, 2]]


@pytest.mark.parametrize(
    "row", [[right("4"), right("4"), wrong("1/2")], [wrong("1/2"), wrong("0.5")], [right("4")], [NONE]]
)
def test_nothing_is_compared_where_the_majority_is_clear(row):
    votes = votes_of([row], refuse)
    assert [vote == 0 for vote in votes[0]] == [grade.correct for grade in row]


def test_what_the_math_grader_cannot_read_votes_alone(pool):
    row = [right("4"), wrong("\\text{"), wrong("9^{9^{9^9}}"), wrong("3")]
    assert votes_of([row], pool.same) == [[0, 1, 2, 3]]
