import threading
import time

import pytest

from fipo.rollout import deadline
from fipo.rollout.deadline import within


def test_what_ends_in_time_is_returned_or_raised():
    assert within(60, lambda: 5) == 5
    with pytest.raises(ZeroDivisionError):
        within(60, lambda: 1 // 0)


def test_what_does_not_end_is_left_alone():
    released = threading.Event()
    with pytest.raises(TimeoutError):
        within(0.05, released.wait)
    released.set()


def test_a_loop_that_does_not_end_is_stopped():
    turns = []

    def forever():
        while True:
            turns.append(1)
            time.sleep(0.001)

    with pytest.raises(TimeoutError):
        within(0.05, forever)
    seen = -1
    while len(turns) != seen:
        seen = len(turns)
        time.sleep(0.1)


def test_what_fills_the_memory_is_left_alone(monkeypatch):
    released = threading.Event()
    used = iter([100, 200])
    monkeypatch.setattr(deadline, "_most_used", lambda: next(used, deadline.MOST_MEMORY + 101))
    with pytest.raises(TimeoutError):
        within(60, released.wait)
    released.set()
