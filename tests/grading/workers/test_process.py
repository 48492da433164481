import json
import os
import signal
import time

import pytest

from fipo.grading.workers.process import GradingProcess, Request


@pytest.fixture
def worker():
    worker = GradingProcess("number", 256)
    while not worker.ready:
        time.sleep(0.01)
        worker.ready = any(reply.get("ready") for reply in worker.receive())
    yield worker
    worker.kill()


def request(index, response):
    problem = {"id": "test/1", "prompt": "?", "answer": "34", "source": "test", "metadata": {}}
    return Request(
        index=index, line=json.dumps({"id": index, "problem": problem, "response": response}).encode() + b"\n"
    )


def flushed(worker):
    while worker.wants_to_write:
        worker.flush()
        time.sleep(0.01)


def test_the_time_of_an_answer_does_not_begin_before_it_has_reached_the_worker(worker):
    os.kill(worker.process.pid, signal.SIGSTOP)
    worker.send(request(0, "x" * 1_000_000))
    assert worker.wants_to_write  # a pipe holds less
    before = worker.since
    time.sleep(0.2)
    os.kill(worker.process.pid, signal.SIGCONT)
    flushed(worker)
    assert worker.since > before + 0.2


def test_an_answer_that_waits_in_the_pipe_takes_no_time_from_the_one_that_is_graded(worker):
    os.kill(worker.process.pid, signal.SIGSTOP)
    worker.send(request(0, "34"))
    before = worker.since
    time.sleep(0.05)
    worker.send(request(1, "x" * 1_000_000))
    worker.flush()
    assert worker.since == before
    os.kill(worker.process.pid, signal.SIGCONT)
    flushed(worker)


def test_sending_to_a_worker_that_is_gone_begins_nothing(worker):
    worker.process.kill()
    worker.process.wait()
    for index in range(12):
        worker.send(request(index, "34"))
    assert worker.unbegun and not worker.wants_to_write
    worker.receive()
    assert worker.ended


def test_a_worker_that_took_part_of_an_answer_has_begun_it(worker):
    os.kill(worker.process.pid, signal.SIGSTOP)
    worker.send(request(0, "x" * 1_000_000))
    worker.process.kill()
    worker.process.wait()
    worker.flush()
    worker.send(request(1, "x" * 1_000_000))
    assert not worker.unbegun
