"""Each tracker by its real library, written into a run directory and read back."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.telemetry.tracker_readers import READERS, need

from fipo.errors import UserError
from fipo.extras import install_hint
from fipo.telemetry.run_directory import RunDirectory
from fipo.telemetry.trackers import Trackers, watch

ALL = list(READERS)
LINES = [{"step": step, "reward/mean": step / 8, "eval/avg_at_k": 0.5} for step in range(4)]
LOGGED = {line["step"]: {key: value for key, value in line.items() if key != "step"} for line in LINES}
NO_NETWORK = """
import os, socket, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname"):
        host = arguments[1] if event == "socket.connect" else arguments[0]
        host = host[0] if isinstance(host, tuple) else host
        if isinstance(host, str) and not host.startswith(("/", "127.", "::1", "localhost")):
            with open(os.environ["CALLED_HOSTS"], "a") as file:
                print(event, host, file=file)
            raise OSError("no network in this test")
sys.addaudithook(refuse)
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path / "demo")
    run.create({"run": {"name": "demo"}, "objective": {"influence_clip": [1.0, 1.2]}})
    return run


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts code in the place of tensorboard's Writer, in the trackers' processes."""

    def put(code: str) -> None:
        package = tmp_path / "library" / "tensorboard"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "summary.py").write_text(code)
        path = [str(package.parent), os.environ.get("PYTHONPATH", "")]
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path)))

    need("tensorboard")
    return put


def track(run: RunDirectory, names: list[str], lines: list[dict[str, float]]) -> list[str]:
    """What was said in a session that writes these lines."""
    said: list[str] = []
    with Trackers(names, run, said.append) as trackers:
        trackers.start()
        for line in lines:
            run.append_metrics(line)
            trackers.check()
    return said


def wait_for_step(run: RunDirectory, name: str, step: int) -> None:
    state, deadline = run.trackers / name / "state.json", time.monotonic() + 60
    while not (state.exists() and json.loads(state.read_text())["step"] >= step):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALL)
def test_a_resumed_run_has_every_step_once_with_its_values_and_calls_nobody(
    name: str, run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need(name)
    monkeypatch.setattr(watch, "FINISH_SECONDS", 240)  # for the library's import on a busy machine
    (tmp_path / "sitecustomize.py").write_text(NO_NETWORK)
    monkeypatch.setenv("CALLED_HOSTS", str(tmp_path / "hosts.txt"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    for variable in ("WANDB_MODE", "SWANLAB_MODE", "TRACKIO_SPACE_ID"):
        monkeypatch.delenv(variable, raising=False)
    assert track(run, [name], LINES[:3]) == []
    identity = json.loads((run.trackers / name / "state.json").read_text())["id"]
    run.rewind([line for line, _ in run.whole_steps()[:2]])
    assert track(run, [name], LINES[2:]) == []
    assert READERS[name](run.trackers / name) == {step: pytest.approx(values) for step, values in LOGGED.items()}
    assert json.loads((run.trackers / name / "state.json").read_text()) == {"id": identity, "step": 3}
    assert not (tmp_path / "hosts.txt").exists()


def test_a_tracker_that_joins_a_run_late_gets_its_first_steps_too(run: RunDirectory) -> None:
    need("tensorboard")
    for line in LINES[:2]:
        run.append_metrics(line)
    assert track(run, ["tensorboard"], LINES[2:]) == []
    assert list(READERS["tensorboard"](run.trackers / "tensorboard")) == [0, 1, 2, 3]


def test_what_a_killed_run_had_written_is_still_logged(run: RunDirectory) -> None:
    need("tensorboard")
    code = (
        "import os, signal, sys; from pathlib import Path\n"
        "from fipo.telemetry.run_directory import RunDirectory\n"
        "from fipo.telemetry.trackers import Trackers\n"
        "run = RunDirectory(Path(sys.argv[1]))\n"
        "with Trackers(['tensorboard'], run, print) as trackers:\n"
        "    trackers.start()\n"
        "    run.append_metrics({'step': 0, 'reward/mean': 0.5})\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(run.path)])
    assert done.returncode == -signal.SIGKILL
    wait_for_step(run, "tensorboard", 0)
    assert READERS["tensorboard"](run.trackers / "tensorboard") == {0: {"reward/mean": 0.5}}


RAISES = """
class Writer:
    def __init__(self, folder): pass
    def flush(self): pass
    def add_scalar(self, key, value, step):
        if step == 1:
            raise ValueError("no more\\nroom")
"""


def test_a_tracker_that_raises_is_named_once_with_its_step_and_dropped(run: RunDirectory, library) -> None:
    library(RAISES)
    said: list[str] = []
    with Trackers(["tensorboard"], run, said.append) as trackers:
        trackers.start()
        for line in LINES:
            run.append_metrics(line)
        deadline = time.monotonic() + 60
        while not said and time.monotonic() < deadline:
            trackers.check()
            time.sleep(0.05)
        trackers.check()
    log = run.trackers / "tensorboard" / "log.txt"
    assert said == [
        f"tracker tensorboard failed at step 1: ValueError: no more room; the run goes on without it ({log})"
    ]
    assert "Traceback" in log.read_text()


TAKES_ALL = """
class Writer:
    def __init__(self, folder): pass
    def flush(self): pass
    def close(self): pass
    def add_scalar(self, key, value, step): pass
"""


def said_when_the_folder_is_removed(run: RunDirectory, later: list[dict[str, float]]) -> list[str]:
    """What tensorboard's process says in a run whose trackers/ somebody removes before the `later` lines."""
    said: list[str] = []
    with Trackers(["tensorboard"], run, said.append) as trackers:
        trackers.start()
        run.append_metrics(LINES[0])
        wait_for_step(run, "tensorboard", 0)
        shutil.rmtree(run.trackers)
        for line in later:
            run.append_metrics(line)
    return said


def test_a_folder_of_trackers_that_somebody_removed_is_made_again(run: RunDirectory, library) -> None:
    library(TAKES_ALL)
    said = said_when_the_folder_is_removed(run, LINES[1:])
    assert said == []
    assert json.loads((run.trackers / "tensorboard" / "state.json").read_text())["step"] == 3


def test_a_tracker_whose_log_is_gone_still_fails_in_one_line(run: RunDirectory, library) -> None:
    library(RAISES)
    said = said_when_the_folder_is_removed(run, LINES[1:2])
    assert said[0].startswith("tracker tensorboard failed and gave no reason; the run goes on without it")


@pytest.mark.parametrize("content", ["{", "[]", '{"id": 3, "step": 1}', '{"id": "a"}'])
def test_a_diary_of_another_shape_is_named(run: RunDirectory, library, content: str) -> None:
    library(TAKES_ALL)
    (run.trackers / "tensorboard").mkdir(parents=True)
    (run.trackers / "tensorboard" / "state.json").write_text(content)
    (said,) = track(run, ["tensorboard"], LINES)
    assert said.startswith("tracker tensorboard failed at its start: ") and "state.json: " in said


def test_a_tracker_that_fails_at_its_start_says_so(run: RunDirectory, library) -> None:
    library("class Writer:\n    def __init__(self, folder): raise RuntimeError('not today')\n")
    (said,) = track(run, ["tensorboard"], LINES)
    assert said.startswith("tracker tensorboard failed at its start: RuntimeError: not today; the run goes on")


def test_a_tracker_that_crashes_its_process_says_so(run: RunDirectory, library) -> None:
    library("import os\nos.kill(os.getpid(), 11)\n")
    (said,) = track(run, ["tensorboard"], LINES)
    assert said.startswith("tracker tensorboard ended with signal 11; the run goes on without it")


def test_a_tracker_that_hangs_holds_up_no_step_and_is_ended_after_the_run(
    run: RunDirectory, library, monkeypatch: pytest.MonkeyPatch
) -> None:
    library("import time\ntime.sleep(600)\n")
    monkeypatch.setattr(watch, "FINISH_SECONDS", 2)
    said: list[str] = []
    with Trackers(["tensorboard"], run, said.append) as trackers:
        began = time.monotonic()
        trackers.start()
        for line in LINES:
            run.append_metrics(line)
            trackers.check()
        assert time.monotonic() - began < 60
        process = trackers.processes["tensorboard"]
    assert said == [
        f"tracker tensorboard did not finish within 2 s and was ended ({run.trackers / 'tensorboard' / 'log.txt'})"
    ]
    assert process.poll() is not None


def test_a_library_that_is_missing_is_refused_with_the_command_that_installs_it(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])  # where installed packages are looked for
    with pytest.raises(
        UserError, match=rf"^telemetry.trackers: wandb is not installed: {re.escape(install_hint('wandb'))}$"
    ):
        Trackers(["wandb"], run, print)
    assert not run.trackers.exists()
