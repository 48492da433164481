"""Grading in processes that can be killed: no answer hangs, crashes or fills the memory of a training run.

with GraderPool("math", workers=2, deadline_seconds=5, memory_mib=1024) as pool:
    grades = pool.grade([(response, problem), ...])

An answer that takes longer than the deadline is a `timeout`; one that raises, runs out of memory, kills its
process or leaves another one behind is a `crash`. Either costs that answer alone: its worker is replaced, and the
answers that waited there are graded elsewhere. The deadline counts from when a worker begins an answer.
"""

import json
import os
import selectors
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from fipo.beat import Beat, no_beat
from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.grading.grade import Grade, Outcome
from fipo.grading.grader import Grader
from fipo.grading.registry import GRADERS
from fipo.grading.workers.process import GradingProcess, Request
from fipo.grading.workers.system import check_number, death_of, kill

START_SECONDS = 120.0  # for imports, and for what a grader prepares of a problem
FAILED_STARTS = 3  # in a row
WINDOW = 16  # answers in a worker's queue: enough to keep it busy, few enough to wait behind a slow one
GLANCE_SECONDS = 0.2  # how often to see whether a worker died in silence
SUSPENDED_SECONDS = 1.0  # later than that a glance comes only if we were stopped, and the workers perhaps with us
STACKS_SECONDS = 2.0


class GraderPool:
    """`workers` processes that grade with the grader of one name; they start with the first answers."""

    def __init__(self, grader: str, *, workers: int, deadline_seconds: float, memory_mib: int) -> None:
        for name, value in (("workers", workers), ("deadline_seconds", deadline_seconds), ("memory_mib", memory_mib)):
            if not value > 0:
                raise ValueError(f"{name} must be > 0, got {value}")
        self.source: str | None = None  # SHA-256 of a grader of the user's, once it is started
        self._grader = grader
        self._size = workers
        self._deadline_seconds = deadline_seconds
        self._memory_mib = memory_mib
        self._workers: list[GradingProcess] = []
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()  # a watch asks for stacks from another thread
        self._failed_starts = 0
        self._waiting: deque[Request] = deque()
        self._grades: dict[int, Grade] = {}
        self._glanced = time.monotonic()

    def start(self) -> None:
        """Start the workers and wait until they take answers.

        Raises UserError with one line if the grader cannot be had, or not by so many workers.
        """
        check_number(self._size)
        try:
            for worker in list(self._workers):
                if death_of(worker.process.pid) is not None:
                    self._remove(worker)  # it died between two calls
            while len(self._workers) < self._size:
                self._spawn()
            while not all(worker.ready for worker in self._workers):
                self._turn()
        except BaseException:
            self.close()
            raise

    def grade(self, answers: Sequence[tuple[str, Problem]], beat: Beat = no_beat) -> list[Grade]:
        """The grades of (response, problem) pairs, in their order; `beat` is called as they come.

        Raises UserError if the grader cannot be had, or its workers do not start any more.
        """
        written: dict[int, str] = {}  # the responses of a group share their problem
        return self._asked((_of_problem(problem, written, response) for response, problem in answers), beat)

    def readable(self, problems: Sequence[Problem], beat: Beat = no_beat) -> list[str | None]:
        """Why the grader cannot grade responses to each problem; None where it can. Raises UserError as `grade`."""
        verdicts = self._asked((_of_problem(problem, {}) for problem in problems), beat)
        return [
            f"grader {self._grader!r} failed on the problem: {verdict.reason}" if verdict.failed else verdict.reason
            for verdict in verdicts
        ]

    def same(self, pairs: Sequence[tuple[str, str]], beat: Beat = no_beat) -> list[bool]:
        """Whether the two answers of each pair are the same one to the grader. Raises UserError as `grade`."""
        grader = GRADERS.get(self._grader)
        if grader is not None and type(grader).same is Grader.same:
            return [a == b for a, b in pairs]  # which needs no worker
        return [verdict.correct for verdict in self._asked((f'"same": {json.dumps(pair)}' for pair in pairs), beat)]

    def _asked(self, questions: Iterable[str], beat: Beat) -> list[Grade]:
        """A verdict on each: what follows the id in a request to a worker."""
        self._glanced = time.monotonic()
        self.start()
        self._grades = {}
        self._waiting.clear()
        coming, asked = iter(questions), 0
        try:
            while True:
                while len(self._waiting) < self._size * WINDOW and (question := next(coming, None)) is not None:
                    self._waiting.append(_request(asked, question))
                    asked += 1
                if (graded := len(self._grades)) == asked:
                    break
                self._hand_out()
                self._turn()
                if len(self._grades) > graded:
                    beat()
        except BaseException:  # Ctrl-C too: no stale answer may reach the next call
            self.close()
            raise
        return [self._grades[index] for index in range(asked)]

    def worker_stacks(self) -> str:
        """What every thread of every worker is doing, or that a worker did not answer. For another thread, too."""
        with self._lock:
            for worker in self._workers:
                if worker.alive:
                    worker.stacks.truncate(0)
                    kill([worker.process.pid], signal.SIGUSR1)
            shown = [f"grading worker {worker.process.pid}: {_stacks(worker)}" for worker in self._workers]
        return "\n".join(shown) or "no grading worker is running"

    def close(self) -> None:
        """End the workers. The pool can be used again."""
        for worker in list(self._workers):
            self._remove(worker)
        self._failed_starts = 0

    def __enter__(self) -> "GraderPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _turn(self) -> None:
        """Wait for something to happen, and see to it."""
        for worker in self._workers:
            self._watch_writing(worker)
        for key, _ in self._selector.select(self._seconds_to_wait()):
            if key.data not in self._workers:
                continue  # lost while we saw to another event of this turn
            if key.fd == key.data.requests:
                key.data.flush()
            else:
                self._receive(key.data)
        now = time.monotonic()
        late = now - self._glanced - GLANCE_SECONDS
        self._glanced = now
        for worker in list(self._workers):
            if late > SUSPENDED_SECONDS:
                worker.since = min(now, worker.since + late)  # time in which it may have stood still
            self._look_after(worker, now)

    def _watch_writing(self, worker: GradingProcess) -> None:
        if worker.wants_to_write and not worker.writing:
            self._selector.register(worker.requests, selectors.EVENT_WRITE, worker)
        elif worker.writing and not worker.wants_to_write:
            self._selector.unregister(worker.requests)
        worker.writing = worker.wants_to_write

    def _seconds_to_wait(self) -> float:
        now = time.monotonic()
        limits = [worker.since + self._limit(worker) - now for worker in self._workers if worker.queue]
        return max(0.0, min([GLANCE_SECONDS, *limits]))

    def _hand_out(self) -> None:
        """Give waiting answers to the workers with the shortest queues."""
        ready = [worker for worker in self._workers if worker.ready]
        while self._waiting and ready:
            worker = min(ready, key=lambda worker: len(worker.queue))
            if len(worker.queue) >= WINDOW:
                return
            worker.send(self._waiting.popleft())

    def _receive(self, worker: GradingProcess) -> None:
        for message in worker.receive():
            if "id" in message and not _is_answer_to(message, worker):
                worker.ended = True  # a grader wrote it, not its worker
                break
            if "outcome" in message:
                self._finish(worker, message)
            elif "clock" in message:
                worker.set_clock(message["clock"])
            elif "refused" in message:
                raise UserError(message["refused"])
            worker.alive = True
            if "ready" in message:
                worker.ready = True
                self.source = message.get("source")
                self._failed_starts = 0
        if worker.ended:
            self._replace(worker, "crash")

    def _finish(self, worker: GradingProcess, message: dict[str, Any]) -> None:
        request = worker.finish_first()
        outcome, answer, reason = (message[name] for name in ("outcome", "answer", "reason"))
        score = message.get("score")
        self._grades[request.index] = Grade(outcome=outcome, answer=answer, reason=reason, score=score)
        if message["leaving"]:
            worker.leaving, worker.ready = True, False

    def _look_after(self, worker: GradingProcess, now: float) -> None:
        """See whether it takes too long, or died without a word."""
        seconds = now - worker.since
        if not worker.ready and not worker.leaving and seconds > START_SECONDS:
            raise UserError(f"grader {self._grader!r}: its worker must be ready within {START_SECONDS:g} s")
        if worker.queue and seconds > self._limit(worker):
            self._replace(worker, "timeout")
        elif seconds > GLANCE_SECONDS and death_of(worker.process.pid) is not None:
            worker.ended = True  # a child of it may hold the pipe open
            self._replace(worker, "crash")

    def _limit(self, worker: GradingProcess) -> float:
        """Seconds for what it is doing: grading an answer, or preparing its problem."""
        return self._deadline_seconds if worker.timed else START_SECONDS

    def _replace(self, worker: GradingProcess, outcome: Outcome) -> None:
        """Kill a worker. What it was grading gets `outcome`, and what waited behind that goes to others."""
        words = worker.last_words()
        death = self._remove(worker)
        if not worker.ready and not worker.leaving:
            self._failed_starts += 1
            if self._failed_starts == FAILED_STARTS:
                said = f": {words}" if words else ""
                raise UserError(f"grader {self._grader!r}: its worker {death} before it was ready{said}")
        if worker.queue and not worker.leaving and not worker.unbegun:
            reason = (
                f"no grade within {self._limit(worker):g} s"
                if outcome == "timeout"
                else f"the grader's process {death}"
            )
            self._grades[worker.queue.popleft().index] = Grade(outcome=outcome, answer=None, reason=reason)
        self._waiting.extendleft(reversed(worker.queue))
        self._spawn()

    def _spawn(self) -> None:
        worker = GradingProcess(self._grader, self._memory_mib)
        with self._lock:
            self._workers.append(worker)
        self._selector.register(worker.replies, selectors.EVENT_READ, worker)

    def _remove(self, worker: GradingProcess) -> str:
        self._selector.unregister(worker.replies)
        if worker.writing:
            self._selector.unregister(worker.requests)
        with self._lock:
            self._workers.remove(worker)
        return worker.kill()


def _request(index: int, question: str) -> Request:
    return Request(index=index, line=f'{{"id": {index}, {question}}}\n'.encode())


def _of_problem(problem: Problem, written: dict[int, str], response: str | None = None) -> str:
    """In ASCII, so that lone surrogates and control characters travel, too."""
    if id(problem) not in written:
        written[id(problem)] = f'"problem": {json.dumps(vars(problem))}'
    return written[id(problem)] + ("" if response is None else f', "response": {json.dumps(response)}')


def _is_answer_to(message: dict[str, Any], worker: GradingProcess) -> bool:
    """Whether a message is about what its worker is asked first."""
    return bool(worker.queue) and message["id"] == worker.queue[0].index


def _stacks(worker: GradingProcess) -> str:
    """What it wrote of its stacks, once that is all."""
    if not worker.alive:
        return "is starting"
    until = time.monotonic() + STACKS_SECONDS
    size = 0
    while time.monotonic() < until:
        time.sleep(0.05)
        before, size = size, os.fstat(worker.stacks.fileno()).st_size
        if size and size == before:
            return "\n" + os.pread(worker.stacks.fileno(), size, 0).decode(errors="replace")
    return f"did not answer within {STACKS_SECONDS:g} s"
