import signal
import subprocess
import sys
import threading
import time

import pytest

from fipo.evaluation.threads import in_parallel


def test_results_come_in_the_order_of_the_inputs():
    def slow_first(value):
        time.sleep(0.02 * (3 - value))
        return value * 10

    heard = []
    assert in_parallel(slow_first, [0, 1, 2], 3, heard.append) == [0, 10, 20]
    assert sorted(heard) == [0, 10, 20]


def test_no_more_run_at_one_time_than_asked_and_all_of_these_do():
    running, most, lock = 0, 0, threading.Lock()

    def count(_):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    in_parallel(count, range(12), 3)
    assert most == 3


def test_the_first_exception_is_raised_and_no_more_begins():
    begun = []

    def fail(value):
        begun.append(value)
        raise ValueError(f"no {value}")

    with pytest.raises(ValueError, match="no 0"):
        in_parallel(fail, range(1000), 1)
    assert begun == [0]


def test_nothing_of_nothing():
    assert in_parallel(str, [], 4) == []


def test_an_interrupted_process_does_not_wait_for_what_hangs():
    code = """
import time
from fipo.evaluation.threads import in_parallel
print("ready", flush=True)
in_parallel(lambda _: time.sleep(60), range(2), 2)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.5)
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=50)
    assert "KeyboardInterrupt" in errors
    assert time.monotonic() - started < 40
