"""One grading worker as the trainer sees it: the process, its two pipes, and what it is working on."""

import itertools
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

from fipo.grading.workers.system import death_of, kill, kill_tree, processes_with
from fipo.recipe.toml import FOLDERS

THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
CHUNK = 65536
MARK = "FIPO_GRADING_WORKER"  # in the environment of a worker and of whatever it starts
NUMBERS = itertools.count()
WORDS = 400  # characters of what a worker says when it cannot start
KEYS = {"alive", "ready", "refused", "clock", "outcome"}  # each message of a worker has one of them


@dataclass(frozen=True, kw_only=True)
class Request:
    index: int  # its place among the answers of this call
    line: bytes


class GradingProcess:
    """Never blocks: `send` queues, `flush` writes and `receive` reads what the pipes take and have."""

    def __init__(self, grader: str, memory_mib: int) -> None:
        self.queue: deque[Request] = deque()  # the first is being graded
        self.alive = False  # it can show its stacks
        self.ready = False  # it takes answers
        self.timed = True  # whether the first of the queue is being graded, not prepared
        self._stopped = False  # the clock of the first of the queue has been stopped, which it is once
        self.since = time.monotonic()  # when the worker began what it is doing
        self.leaving = False  # it ends by itself after the answer that it gave
        self.ended = False
        self.unbegun = False  # it was gone before the first of the queue reached it
        self.writing = False  # whether the pool waits for room in the pipe to it
        self._outgoing: deque[memoryview] = deque()
        self._unsent = 0  # requests that are not wholly in the pipe
        self._incoming = b""
        self._gone = False  # it reads no more
        self.stacks = tempfile.TemporaryFile("a+b")  # noqa: SIM115  # closed by kill
        self._said = tempfile.TemporaryFile("a+b")  # noqa: SIM115  # on standard error, until it is ready
        requests, self.requests = os.pipe()
        self.replies, replies = os.pipe()
        for descriptor in (self.requests, self.replies):
            os.set_blocking(descriptor, False)
        theirs = (requests, replies, self.stacks.fileno())
        self.mark = f"{os.getpid()}.{next(NUMBERS)}"
        settings: dict[str, object] = dict(zip(("requests", "replies", "stacks"), theirs, strict=True))
        settings |= {"grader": grader, "folders": FOLDERS, "trainer": os.getpid(), "memory_mib": memory_mib}
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "fipo.grading.workers.worker", json.dumps(settings)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._said,
                pass_fds=theirs,
                start_new_session=True,
                env=os.environ | THREADS | {"PYTHONHASHSEED": "0", MARK: self.mark},
            )
        finally:
            os.close(requests)
            os.close(replies)

    @property
    def wants_to_write(self) -> bool:
        return bool(self._outgoing)

    def send(self, request: Request) -> None:
        if not self.queue:
            self._begin_next()
        self.queue.append(request)
        self._outgoing.append(memoryview(request.line))
        self._unsent += 1
        self.flush()

    def flush(self) -> None:
        """Write what the pipe takes."""
        if self._gone:
            self._outgoing.clear()
            return
        try:
            while self._outgoing:
                first_arriving = self._unsent == len(self.queue)
                written = os.write(self.requests, self._outgoing[0][:CHUNK])
                rest = self._outgoing[0][written:]
                if rest:
                    self._outgoing[0] = rest
                else:
                    self._outgoing.popleft()
                    self._unsent -= 1
                if first_arriving:
                    self.since = time.monotonic()
        except BlockingIOError:
            return
        except BrokenPipeError:  # which `receive` will say, too
            self._gone = True
            self.unbegun = self._unsent == len(self.queue) and len(self._outgoing[0]) == len(self.queue[0].line)
            self._outgoing.clear()

    def receive(self) -> list[dict[str, Any]]:
        """The messages that have arrived; sets `ended` where no more can come."""
        try:
            data = os.read(self.replies, CHUNK)  # once: a grader may write without end
        except BlockingIOError:
            return []
        *lines, self._incoming = (self._incoming + data).split(b"\n")
        self.ended = not data or len(self._incoming) > CHUNK
        messages = []
        for line in lines:
            try:
                messages.append(_understood(json.loads(line)))
            except (ValueError, RecursionError):
                self.ended = True  # a grader wrote into the pipe
                break
        return messages

    def set_clock(self, state: str) -> None:
        """The first of the queue is prepared, which has a time of its own; or its grading begins. Each once at most."""
        if (state, self.timed, self._stopped) not in (("stopped", True, False), ("started", False, True)):
            self.ended = True
            return
        self.timed, self._stopped = state == "started", True
        self.since = time.monotonic()

    def last_words(self) -> str:
        """The last line that it wrote on standard error before it was ready, if it did."""
        size = self._said.seek(0, os.SEEK_END)
        lines = os.pread(self._said.fileno(), WORDS, max(0, size - WORDS)).decode(errors="replace").splitlines()
        return next((line.strip()[: WORDS // 2] for line in reversed(lines) if line.strip()), "")

    def finish_first(self) -> Request:
        """The first of the queue is graded: the worker has begun the next."""
        request = self.queue.popleft()
        self._begin_next()
        return request

    def _begin_next(self) -> None:
        self.since = time.monotonic()
        self.timed, self._stopped = True, False

    def kill(self) -> str:
        """End it and all that it started; how it had ended, in words."""
        until = time.monotonic() + 0.2  # the pipe closes a moment before the process ends
        while (death := death_of(self.process.pid)) is None and self.ended and time.monotonic() < until:
            time.sleep(0.001)
        kill_tree(self.process.pid)
        self.process.wait()
        kill(processes_with(f"{MARK}={self.mark}"))  # what it had started in sessions of their own
        os.close(self.requests)
        os.close(self.replies)
        self.stacks.close()
        self._said.close()
        return death or "lost its connection"


def _understood(message: Any) -> dict[str, Any]:
    """Raises ValueError for what no worker of ours writes."""
    if not isinstance(message, dict) or len(KEYS & message.keys()) != 1:
        raise ValueError("not a worker's message")
    if {"outcome", "clock"} & message.keys() and not isinstance(message.get("id"), int):
        raise ValueError("not about an answer")
    if "outcome" in message and not {"answer", "reason", "leaving"} <= message.keys():
        raise ValueError("not a whole grade")
    score = message.get("score")
    if score is not None and not (isinstance(score, int | float) and math.isfinite(score)):
        raise ValueError("not a grade's score")
    return message
