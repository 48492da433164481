"""Graders that do what no grader should, each when a response asks for it. A pool imports this module by its name."""

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from fipo.grading.grade import Grade

KEPT = []


def grade(response, problem):
    """`do: it` misbehaves; anything else is right if it is the problem's answer."""
    action, _, argument = response.partition(": ")
    if action == "do":
        return MISDEEDS[argument]()
    if action == "pid":
        return Grade(outcome="correct", answer=str(os.getpid()))
    if action == "cwd":
        return Grade(outcome="correct", answer=os.getcwd())
    if action == "write":
        Path(argument).write_text(str(os.getpid()))
        time.sleep(60)
    if action == "long":
        return Grade(outcome="wrong", answer="\ud800" * 100_000)
    if action == "fork and sleep":
        if os.fork() == 0:
            time.sleep(60)
        Path(argument).touch()
        time.sleep(60)
    return response == problem.answer


def only_true(response, problem):
    return True


NOT_CALLABLE = 3


def loop_for_ever():
    while True:
        pass


def hold_the_gil():
    ctypes.PyDLL(None).sleep(60)


def fill_the_memory():
    while True:
        KEPT.append(bytearray(16 * 2**20))


def fill_the_memory_at_once():
    return "x" * 2**50


def read_the_address_zero():
    ctypes.string_at(0)


def kill_itself():
    os.kill(os.getpid(), signal.SIGKILL)


def stop_itself():
    os.kill(os.getpid(), signal.SIGSTOP)


def fork_and_sleep_in_the_child():
    if os.fork() == 0:
        time.sleep(60)
    return True


def fork_and_return_twice():
    os.fork()
    return True


def fork_and_raise_in_the_child():
    if os.fork() == 0:
        raise RuntimeError("in the child")
    time.sleep(0.1)
    return True


def fork_a_daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(60)
        os._exit(0)
    os.wait()
    return True


def start_a_session_and_read_the_address_zero():
    subprocess.Popen(["sleep", "60"], start_new_session=True)
    read_the_address_zero()


def write_without_end_into_every_descriptor():
    for descriptor in range(3, 64):
        while True:
            try:
                os.write(descriptor, b"x" * 65536)
            except OSError:
                break


def write_numbers_into_every_descriptor():
    write_to_all(b"1\n[]\n{}\n")


def write_brackets_into_every_descriptor():
    write_to_all(b"[" * 60_000 + b"\n")


def write_half_a_grade_into_every_descriptor():
    write_to_all(b'{"outcome": "correct"}\n')


def grade_another_answer():
    write_to_all(b'{"id": 10000, "outcome": "correct", "answer": "1", "reason": null, "leaving": false}\n')
    return True


def stop_the_clock_for_ever():
    frame = sys._getframe()
    while "request" not in frame.f_locals:
        frame = frame.f_back
    line = json.dumps({"id": frame.f_locals["request"]["id"], "clock": "stopped"})
    while True:
        write_to_all(line.encode() + b"\n")
        time.sleep(0.05)


def write_to_all(data):
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, data)
        except OSError:
            continue


def leave_a_thread_that_kills():
    threading.Timer(0.3, os._exit, [3]).start()
    return True


def fork_and_exit():
    if os.fork() == 0:
        time.sleep(60)
    os._exit(0)


def start_a_program():
    subprocess.Popen(["sleep", "60"], start_new_session=True)
    return True


def start_a_program_and_loop():
    start_a_program()
    loop_for_ever()


def fork_and_loop():
    if os.fork() == 0:
        os.setsid()
    loop_for_ever()


def print_megabytes():
    for stream in (sys.stdout, sys.stderr):
        stream.write("noise\n" * 1_000_000)
        stream.flush()
    return "3"


def close_descriptors():
    os.closerange(0, 1000)
    return True


def write_into_every_descriptor():
    for descriptor in range(3, 64):
        try:
            os.write(descriptor, b"garbage\n")
        except OSError:
            continue
    return True


def ring_later():
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    return "3"


def move_away():
    os.chdir("/")
    return "3"


def raise_an_error():
    raise ValueError("not this one")


def ask_to_exit():
    raise SystemExit(0)


def interrupt():
    raise KeyboardInterrupt


def return_nothing():
    return None


def return_a_strange_grade():
    return Grade(outcome="splendid", answer=None)


def return_a_grade_of_bytes():
    return Grade(outcome="correct", answer=b"3")


def wait_for_a_thread():
    thread = threading.Thread(target=time.sleep, args=(60,))
    thread.start()
    thread.join()


MISDEEDS = {name.replace("_", " "): value for name, value in list(vars().items()) if callable(value)}
