"""`fipo train` and `fipo eval` in forked processes: everything is imported once, so that many deaths take minutes."""

import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: a forked process must not inherit a pool of threads

import transformers.models.qwen2.modeling_qwen2  # noqa: F401

import fipo.evaluation.score
import fipo.report
import fipo.training  # noqa: F401
from fipo.cli import main


@dataclass(frozen=True, kw_only=True)
class Child:
    pid: int
    log: Path

    def wait(self) -> int:
        """The exit code; -9 after SIGKILL."""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def fork(work: Callable[[], int], log: Path) -> Child:
    """`work` in a child with its output in `log`; its value is the exit code."""
    pid = os.fork()
    if pid:
        return Child(pid=pid, log=log)
    code = 70
    try:
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout = os.fdopen(1, "w", closefd=False)  # pytest has put its own there
        sys.stderr = os.fdopen(2, "w", closefd=False)
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def fork_eval(recipe: Path, name: str, log: Path) -> Child:
    """`fipo eval RECIPE` into a folder of its own."""
    return fork(lambda: main(["eval", str(recipe), "--output.name", name]), log)


def fork_train(recipe: Path, name: str, log: Path, *overrides: str, first: Callable[[], None] | None = None) -> Child:
    """`fipo train RECIPE --resume` under a run name of its own; `first` is called in the child before it."""

    def work() -> int:
        if first is not None:
            first()
        return main(["train", str(recipe), "--resume", "--run.name", name, *overrides])

    return fork(work, log)
