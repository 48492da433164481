import time

import pytest

from fipo.telemetry.clock import Clock


def test_a_phase_counts_the_time_spent_inside_and_adds_up():
    clock = Clock()
    for _ in range(2):
        with clock.phase("generate"):
            time.sleep(0.02)
    with clock.phase("grade"):
        pass
    assert clock.seconds["generate"] >= 0.04
    assert clock.seconds["grade"] < clock.seconds["generate"]


def test_time_outside_of_phases_counts_only_in_all():
    clock = Clock()
    time.sleep(0.02)
    with clock.phase("generate"):
        pass
    assert clock.elapsed() >= 0.02
    assert sum(clock.seconds.values()) <= clock.elapsed() - 0.02


def test_a_phase_that_fails_is_counted_all_the_same():
    clock = Clock()
    with pytest.raises(ZeroDivisionError), clock.phase("update"):
        time.sleep(0.01)
        _ = 1 / 0
    assert clock.seconds["update"] >= 0.01


def test_a_new_clock_has_no_phases():
    assert Clock().seconds == {}
