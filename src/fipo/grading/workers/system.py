"""What grading asks of the operating system. Where that is not Linux, prctl and /proc are missing and left out."""

import ctypes
import os
import resource
import signal
import sys
import time
from pathlib import Path

from fipo.errors import UserError

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
MIB = 2**20
MOST_PER_CORE = 16  # workers; a grader that asks a server waits most of the time
FILES_EACH = 6  # of a worker, while it starts
OTHER_FILES = 64  # of the trainer


def check_number(workers: int) -> None:
    """Raise UserError for more grading workers than the cores, or the files that a process may open, are for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = MOST_PER_CORE * cores
    if workers > most:
        raise UserError(f"grading.workers must be <= {most}, {MOST_PER_CORE} for each of {cores} cores, got {workers}")
    most = (files - OTHER_FILES) // FILES_EACH
    if files != resource.RLIM_INFINITY and workers > most:
        raise UserError(
            f"grading.workers must be <= {most} where a process may have {files} files open (ulimit -n), got {workers}"
        )


def die_with_parent() -> None:
    """SIGKILL for this process as soon as the thread that started it is gone."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)


def adopt_orphans() -> None:
    """Descendants whose parent ends become children of this process, however they were detached."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def limit_memory(extra_mib: int | None) -> None:
    """At most `extra_mib` of address space more than now; None takes the limit away."""
    status = Path("/proc/self/statm")
    if not status.exists():
        return
    soft = resource.RLIM_INFINITY
    if extra_mib is not None:
        soft = int(status.read_text().split()[0]) * resource.getpagesize() + extra_mib * MIB
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    if hard != resource.RLIM_INFINITY:
        soft = hard if soft == resource.RLIM_INFINITY else min(soft, hard)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def kill_children(patience_seconds: float = 5.0) -> bool:
    """Kill and collect every descendant of this process that it knows of; whether there were any."""
    found = False
    until = time.monotonic() + patience_seconds
    while time.monotonic() < until:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        found = True
        if pid == 0:
            kill(descendants(os.getpid()))
            time.sleep(0.001)
    return found


def kill_tree(pid: int) -> None:
    """Kill a process that leads a group, the group, and its descendants in other groups."""
    kill([pid], signal.SIGSTOP)  # so that it makes no more of them
    for _ in range(10):
        children = descendants(pid)
        if not children:
            break
        kill(children)
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        kill([pid])


def processes_with(variable: str) -> list[int]:
    """The living processes that have `NAME=value` in the environment they were started with."""
    found = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if variable.encode() in environment.read_bytes().split(b"\0"):
                found.append(int(environment.parent.name))
        except OSError:
            continue  # it ended meanwhile, or is another user's
    return found


def kill(pids: list[int], number: int = signal.SIGKILL) -> None:
    """Send a signal to those that still are there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue


def descendants(pid: int) -> list[int]:
    """The living children of a process, theirs, and so on."""
    children: dict[int, list[int]] = {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue  # it ended meanwhile
        if state not in "ZX":
            children.setdefault(int(parent), []).append(int(status.parent.name))
    found = children.get(pid, [])
    for child in found:
        found += children.get(child, [])
    return found


def death_of(pid: int) -> str | None:
    """How a child process ended, in words; None while it lives. It stays to be waited for."""
    try:
        result = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return "ended"
    if result is None:
        return None
    if result.si_code == os.CLD_EXITED:
        return f"exited with status {result.si_status}"
    return f"was killed by {signal.Signals(result.si_status).name}"
