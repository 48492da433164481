"""What grades come to: the words and numbers that our trainer, TRL and verl share."""

from fipo.grading.grade import Grade
from fipo.grading.outcomes import failure_line, grade_metrics, reward_of, too_many_failures

RIGHT, WRONG = Grade(outcome="correct", answer="7"), Grade(outcome="wrong", answer="8")
SLOW = Grade(outcome="timeout", answer=None, reason="no grade within 1 s")


def test_a_failed_grade_says_nothing_and_so_pays_nothing() -> None:
    assert [reward_of(grade) for grade in (RIGHT, WRONG, SLOW)] == [1.0, -1.0, 0.0]


def test_a_batch_is_described_by_shares_and_the_number_that_failed() -> None:
    assert grade_metrics([RIGHT, WRONG, SLOW, SLOW]) == {
        "grade/correct": 0.25,
        "grade/wrong": 0.25,
        "grade/no_answer": 0.0,
        "grade/timeout": 0.5,
        "grade/crash": 0.0,
        "grade/failed": 2,
    }


def test_failures_are_one_line_with_the_first_of_them() -> None:
    assert failure_line([("a", RIGHT), ("b", SLOW), ("c", SLOW)]) == (
        "2 grades failed, the first on problem b: timeout (no grade within 1 s)"
    )
    assert failure_line([("a", RIGHT)]) is None


def test_more_failures_than_the_limit_are_too_many() -> None:
    assert too_many_failures(2, 2) is None and too_many_failures(2, None) is None
    assert too_many_failures(3, 2) == "3 grades timed out or crashed, more than grading.max_failures = 2"
