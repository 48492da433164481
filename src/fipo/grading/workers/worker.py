"""One grading process: reads answers from a pipe, writes a grade for each to another (see grading_pool).

    python -P -m fipo.grading.workers.worker SETTINGS

Both pipes carry JSON lines. Standard input and output are not among them, so that a grader may print.
What the worker writes, in this order:

    {"alive": true}                        it can show its stacks from here on
    {"ready": true, "source": "0a1b..."}   the grader is imported, from this source (null of one of ours),
    or {"refused": "..."}                  or it cannot be had
    {"id": 7, "clock": "stopped"}          this answer's problem has to be prepared first
    {"id": 7, "clock": "started"}          and now its grading begins
    {"id": 7, "outcome": "wrong", "answer": "35", "reason": null, "leaving": false}

A request has an id and a problem with a response to grade; a problem alone, which is "correct" if the grader can grade
responses to it, and else "wrong" with the reason; or two answers, which are "correct" if they are the same one.
"""

import faulthandler
import json
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, get_args

from fipo.data.problem import Problem
from fipo.errors import UserError
from fipo.grading.grade import Grade, Outcome
from fipo.grading.grader import Grader
from fipo.grading.registry import resolve, source_of
from fipo.grading.workers.system import adopt_orphans, die_with_parent, kill_children, limit_memory

ANSWER_LENGTH = 1000  # characters that travel back
REASON_LENGTH = 300
LARGEST_FILE = 64 * 2**20  # bytes, that a grader may write
OUTCOMES = get_args(Outcome)


@dataclass(frozen=True, kw_only=True)
class Settings:
    grader: str
    folders: list[str]  # of the recipes, where its module may be
    requests: int  # file descriptors
    replies: int
    stacks: int
    trainer: int  # process id
    memory_mib: int


def main() -> None:
    settings = Settings(**json.loads(sys.argv[1]))
    _set_up(settings)

    def reply(message: dict[str, Any]) -> None:
        _write(settings.replies, json.dumps(message).encode() + b"\n")

    worker = os.getpid()
    reply({"alive": True})
    try:
        grader = resolve(settings.grader)
        source = source_of(settings.grader)
        _only_in(worker)
        if kill_children():
            raise UserError(f"grader {settings.grader!r}: importing it must not leave processes behind")
    except UserError as error:
        _only_in(worker)
        reply({"refused": str(error)})
        return
    limit_memory(settings.memory_mib)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)  # until now it was kept, to explain a start that fails
    reply({"ready": True, "source": source})
    home = os.open(".", os.O_RDONLY)
    with open(settings.requests, "rb") as requests:
        for line in requests:
            message = _answered(line, grader, settings, reply, home)
            reply(message)
            if message["leaving"]:
                return


def _set_up(settings: Settings) -> None:
    faulthandler.register(signal.SIGUSR1, file=settings.stacks, all_threads=True)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the trainer decides what Ctrl-C means
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    largest = LARGEST_FILE if allowed == resource.RLIM_INFINITY else min(allowed, LARGEST_FILE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    adopt_orphans()
    die_with_parent()
    os.register_at_fork(after_in_child=die_with_parent)
    if os.getppid() != settings.trainer:  # it died before it could take us along
        os._exit(1)
    for descriptor in (settings.requests, settings.replies, settings.stacks):
        os.set_inheritable(descriptor, False)
    sys.path += [*settings.folders, os.getcwd()]  # the user's module; last, so that it hides none of the installed ones


def _answered(
    line: bytes, grader: Grader, settings: Settings, reply: Callable[[dict[str, Any]], None], home: int
) -> dict[str, Any]:
    """The reply to one request, with everything undone that the grader left behind."""
    worker, threads = os.getpid(), threading.active_count()
    request = json.loads(line)
    leaving = False
    try:
        grade = _verdict(request, grader, settings, lambda clock: reply({"id": request["id"], "clock": clock}))
    except BaseException as error:  # SystemExit and KeyboardInterrupt too: none of them may end the worker
        leaving = isinstance(error, MemoryError)  # what fills the memory may stay
        said = " ".join(str(error).split())[:REASON_LENGTH]
        grade = Grade(outcome="crash", answer=None, reason=f"{type(error).__name__}: {said}")
    _only_in(worker)
    if kill_children():
        grade = Grade(outcome="crash", answer=None, reason="the grader left a process behind")
    leaving |= threading.active_count() > threads  # a thread that stays could harm the next answer
    signal.setitimer(signal.ITIMER_REAL, 0)
    os.fchdir(home)
    return {"id": request["id"], **asdict(grade), "leaving": leaving}


def _verdict(request: dict[str, Any], grader: Grader, settings: Settings, clock: Callable[[str], None]) -> Grade:
    if "same" in request:
        return Grade(outcome="correct" if grader.same(*request["same"]) else "wrong", answer=None)
    problem = Problem(**request["problem"])
    if "response" not in request:
        why_not = grader.readable(problem)
        return Grade(outcome="correct" if why_not is None else "wrong", answer=None, reason=why_not)
    _prepare(grader, problem, settings, clock)
    return _shortened(grader(request["response"], problem))


def _only_in(worker: int) -> None:
    """End here in a process that the grader forked: it does not answer in the worker's place."""
    if os.getpid() != worker:
        os._exit(0)


def _prepare(grader: Grader, problem: Problem, settings: Settings, clock: Callable[[str], None]) -> None:
    """Let a grader that has to make something of a problem first do so, on no answer's time and memory."""
    if grader.prepared(problem):
        return
    clock("stopped")
    limit_memory(None)
    try:
        grader.prepare(problem)
    finally:
        limit_memory(settings.memory_mib)
    clock("started")


def _shortened(grade: Grade) -> Grade:
    if grade.outcome not in OUTCOMES or not isinstance(grade.answer, str | None):
        raise TypeError(f"a Grade must have one of {OUTCOMES} and a text or None, got {grade!r:.80}")
    answer = None if grade.answer is None else grade.answer[:ANSWER_LENGTH]
    return Grade(outcome=grade.outcome, answer=answer, reason=grade.reason, score=grade.score)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


if __name__ == "__main__":
    main()
