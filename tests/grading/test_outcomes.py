"""What grades come to: the words and numbers that our trainer, TRL and verl share."""

from fipo.grading.grade import Grade
from fipo.grading.outcomes import (
    broken,
    failure_line,
    grade_metrics,
    part_metrics,
    reward_of,
    too_many_failures,
    varies,
)

RIGHT, WRONG = Grade(outcome="correct", answer="7"), Grade(outcome="wrong", answer="8")
SLOW = Grade(outcome="timeout", answer=None, reason="no grade within 1 s")


def paid(score: float, **parts: float) -> Grade:
    return Grade(outcome="wrong", answer=None, score=score, parts=tuple(parts.items()))


def raised(reason: str) -> Grade:
    return Grade(outcome="crash", answer=None, reason=reason)


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


def test_a_number_is_the_reward() -> None:
    assert reward_of(paid(0.25)) == 0.25


def test_a_group_varies_where_its_rewards_do() -> None:
    assert varies([RIGHT, WRONG]) and varies([paid(0.1), paid(0.2)])
    assert not varies([RIGHT, RIGHT]) and not varies([paid(0.1), paid(0.1)])


def test_a_failed_grade_makes_no_contrast_by_paying_better_than_the_others() -> None:
    assert not varies([WRONG, SLOW]) and not varies([paid(0.0), SLOW]) and not varies([SLOW, SLOW])
    assert varies([RIGHT, SLOW]) and varies([paid(0.5), SLOW])


def test_each_grader_of_several_has_the_mean_of_what_it_gave() -> None:
    assert part_metrics([paid(1, math=1.0, short=-0.5), paid(2, math=0.0, short=-1.5), SLOW]) == {
        "grader/math": 0.5,
        "grader/short": -1.0,
    }
    assert part_metrics([RIGHT]) == {}


def test_a_grader_is_broken_that_fails_on_everything_with_one_kind_of_error() -> None:
    assert broken([raised("KeyError: 'a'"), raised("KeyError: 'b'")]) == (
        "all of 2 grades failed in the same way: crash (KeyError: 'a')"
    )
    assert broken([SLOW]) == "all of 1 grades failed in the same way: timeout (no grade within 1 s)"
    assert broken([]) is None and broken([WRONG]) is None
    assert broken([SLOW, raised("KeyError: 'a'")]) is None and broken([SLOW, WRONG]) is None
