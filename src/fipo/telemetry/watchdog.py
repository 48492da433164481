"""A process beside a run, for the case that no Python thread of the run gets to run: `python -I -S watchdog.py ...`.

The run writes to its stdin as long as it can. After so many seconds without that, in which neither of the two was
stopped, the run's stacks go to its report (SIGUSR2, which faulthandler answers without an interpreter), and it is
killed. Only the standard library, so that it begins at once.
"""

import os
import select
import signal
import sys
import time

TICK = 1.0  # seconds
DUMP_SECONDS = 2.0  # that the stacks may take


def watch(pid: int, limit_seconds: float, said: str) -> None:
    """Return when stdin ends; kill the run after `limit_seconds` of silence."""
    silent, before = 0.0, time.monotonic()
    while silent <= limit_seconds:
        if select.select([0], [], [], TICK)[0]:
            if not os.read(0, 4096):
                return
            silent = 0.0
        now = time.monotonic()
        if not _stopped(pid):
            silent += min(now - before, TICK)  # more means that this process was stopped
        before = now
    os.kill(pid, signal.SIGUSR2)
    time.sleep(DUMP_SECONDS)
    os.kill(pid, signal.SIGKILL)
    print(f"fipo: stalled: no Python thread ran for {silent:.0f} s{said}", file=sys.stderr, flush=True)


def _stopped(pid: int) -> bool:
    """By SIGSTOP or Ctrl-Z. Elsewhere than on Linux only what stops this process as well is noticed."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as status:
            return status.read().rpartition(b")")[2].split()[0] in b"Tt"
    except OSError:
        return False


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # these are for the run
        signal.signal(number, signal.SIG_IGN)
    watch(int(sys.argv[1]), float(sys.argv[2]), sys.argv[3])
