"""One tracker's process: reads metrics.jsonl as it grows and logs each step once, until its stdin ends.

`python -m fipo.telemetry.trackers.follow RUN TRACKER SECONDS`: it ends at most so many after its stdin. A process of
its own, so that the trainer waits for no library, shares signal handlers, threads and random numbers with none, and
survives the crash of any. When the trainer is killed stdin ends too, and what it had written is still logged.
"""

import fcntl
import json
import os
import secrets
import signal
import sys
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

from fipo.telemetry.durable import replace_file
from fipo.telemetry.run_directory import RunDirectory
from fipo.telemetry.tail import Tail
from fipo.telemetry.trackers.adapters import ADAPTERS, TrackedRun, Tracker, TrackerName

POLL_SECONDS = 0.5


class Diary:
    """`state.json` of a tracker's folder: the id of the run there, and the last step that was logged."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "state.json"
        saved: Any = {"id": secrets.token_hex(8), "step": -1}
        if self.path.exists():
            with suppress(ValueError, RecursionError):
                saved = None
                saved = json.loads(self.path.read_bytes())
        if not (isinstance(saved, dict) and isinstance(saved.get("id"), str) and type(saved.get("step")) is int):
            raise ValueError(f"{self.path}: must hold an id and a step; remove it to log all steps again")
        self.id: str = saved["id"]
        self.step: int = saved["step"]
        self.write(self.step)

    def write(self, step: int) -> None:
        self.step = step
        with suppress(OSError):  # writing into it says what is wrong
            for folder in (self.path.parents[1], self.path.parent):  # made again where somebody removed them
                folder.mkdir(exist_ok=True)
        replace_file(self.path, json.dumps({"id": self.id, "step": step}).encode())


class Follower:
    def __init__(self, run: RunDirectory, name: TrackerName, finish_seconds: int) -> None:
        self.run = run
        self.name = name
        self.finish_seconds = finish_seconds
        self.folder = run.trackers / name
        self.doing = "at its start"
        self.ended = threading.Event()

    def follow(self) -> None:
        threading.Thread(target=self._await_end, daemon=True).start()
        with (self.folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the process of the run before this one may still be finishing
            diary = Diary(self.folder)
            tracker = self._start(diary)
            tail = Tail(self.run.metrics)
            ended = False
            while not ended:
                ended = self.ended.wait(POLL_SECONDS)
                for line in tail.lines():
                    if line["step"] > diary.step:
                        self._log(tracker, line)
                        diary.write(line["step"])
            self.doing = "at its end"
            tracker.finish()

    def _start(self, diary: Diary) -> Tracker:
        run = TrackedRun(
            name=self.run.path.name,
            id=diary.id,
            folder=self.folder,
            config=self.run.read_config(),
        )
        return ADAPTERS[self.name](run)

    def _log(self, tracker: Tracker, line: dict[str, Any]) -> None:
        self.doing = f"at step {line['step']}"
        tracker.log(line["step"], {key: value for key, value in line.items() if key != "step"})

    def _await_end(self) -> None:
        sys.stdin.buffer.read()
        signal.alarm(self.finish_seconds)  # its default action ends the process, whatever it hangs in
        self.ended.set()


def main(run: str, name: TrackerName, finish_seconds: str) -> None:
    """Exit code 1 if the tracker failed: what happened is then the last line that was printed."""
    follower = Follower(RunDirectory(Path(run).resolve()), name, int(finish_seconds))
    try:
        follower.follow()
    except BaseException as error:
        traceback.print_exc()
        what = " ".join(str(error).split()) or "no message"
        print(f"{follower.doing}: {type(error).__name__}: {what}", file=sys.stderr, flush=True)
        os._exit(1)  # no atexit hook of a library that failed


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]  # three words, from watch.py
