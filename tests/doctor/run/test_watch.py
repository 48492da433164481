import io
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from rich.console import Console

from fipo.cli import main
from fipo.doctor.run.history import History, Series
from fipo.doctor.run.watch import _Screen, sparkline

# a process that holds the run's lock and writes a line of metrics for each line that it is given
TRAINER = """
import sys
from pathlib import Path
from fipo.telemetry.run_lock import run_lock
folder = Path(sys.argv[1])
with run_lock(folder):
    print("held", flush=True)
    for line in sys.stdin:
        with (folder / "metrics.jsonl").open("a") as file:
            file.write(line)
"""


@pytest.fixture
def trainer(make_run):
    run = make_run([])
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINER, run.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    process.run = run
    yield process
    process.kill()
    process.wait()


@contextmanager
def following(run):
    """`fipo doctor --watch RUN`, with its output in a pipe."""
    environment = {key: value for key, value in os.environ.items() if key not in ("FORCE_COLOR", "TTY_COMPATIBLE")}
    process = subprocess.Popen(
        [sys.executable, "-u", "-m", "fipo.cli", "doctor", "--watch", run.path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def watcher(trainer):
    with following(trainer.run) as process:
        yield process


def write(trainer, *steps, **values):
    for step in steps:
        trainer.stdin.write(json.dumps({"step": step, "accuracy/mean": 0.5} | values) + "\n")
    trainer.stdin.flush()


def test_a_live_run_is_followed_to_its_end(trainer, watcher):
    write(trainer, *range(1, 16))
    assert watcher.stdout.readline().startswith("step ")
    gap = {"rollout/logprob_gap/mean": 0.1}
    write(trainer, *range(16, 51), **gap)
    out, err = watcher.communicate(timeout=60)
    assert (watcher.returncode, err) == (0, "")
    lines = out.splitlines()
    shown = [line for line in lines if line.startswith("step ")]
    assert shown[-1] == "step 50/50  accuracy 0.5"
    assert [int(line.split()[1].split("/")[0]) for line in shown] == list(range(51 - len(shown), 51))
    assert sum(line.startswith("warning: sampler_gap") for line in lines) == 2  # when it appeared, and at the end
    assert f"{trainer.run.path}: step 50 of 50, finished" in lines
    assert lines[-1] == "1 warning"
    assert out.replace("\n", "").isprintable()


def test_a_run_whose_process_is_gone_ends_it_with_1(trainer, watcher):
    write(trainer, 1, 2, 3)
    assert watcher.stdout.readline().startswith("step ")
    trainer.kill()
    out, _ = watcher.communicate(timeout=60)
    assert watcher.returncode == 1
    assert f"{trainer.run.path}: step 3 of 50, not running and not finished" in out


def test_ctrl_c_ends_it_with_130_and_leaves_the_run_alone(trainer, watcher):
    write(trainer, 1)
    assert watcher.stdout.readline().startswith("step 1/50")
    watcher.send_signal(signal.SIGINT)
    _, err = watcher.communicate(timeout=60)
    assert (watcher.returncode, err) == (130, "fipo: interrupted\n")
    assert trainer.poll() is None


def test_a_run_that_is_loading_is_waited_for(trainer):
    config = trainer.run.config.read_bytes()
    trainer.run.config.unlink()
    with following(trainer.run) as watcher:
        assert watcher.stdout.readline() == f"{trainer.run.path}: loading\n"
        trainer.run.config.write_bytes(config)
        write(trainer, 50)
        out, err = watcher.communicate(timeout=60)
    assert (watcher.returncode, err) == (0, "")
    assert out.startswith("step 50/50")


def test_a_run_that_does_not_exist_yet_is_waited_for(trainer):
    run = trainer.run
    elsewhere = run.path.with_name("elsewhere")
    run.path.rename(elsewhere)
    with following(run) as watcher:
        assert watcher.stdout.readline() == f"{run.path}: waiting for this run to begin\n"
        config = (elsewhere / "config.toml").read_bytes()
        (elsewhere / "config.toml").unlink()
        elsewhere.rename(run.path)  # it begins, and is loading
        assert watcher.poll() is None
        run.config.write_bytes(config)
        write(trainer, 50)
        out, err = watcher.communicate(timeout=60)
    assert (watcher.returncode, err) == (0, "")
    assert f"{run.path}: step 50 of 50, finished" in out


def test_one_that_dies_while_it_is_loading_is_no_run(trainer):
    trainer.run.config.unlink()
    with following(trainer.run) as watcher:
        watcher.stdout.readline()
        trainer.kill()
        _, err = watcher.communicate(timeout=60)
    assert (watcher.returncode, err) == (2, f"fipo: {trainer.run.path}: not a run directory (it has no config.toml)\n")


def test_a_finished_run_is_over_at_once(make_run, capsys):
    run = make_run()
    assert main(["doctor", "--watch", str(run.path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("step 50/50  reward ")
    assert lines[-1] == "healthy: 15 rules found nothing, 1 note"


@pytest.fixture
def screen():
    return _Screen(Console(file=io.StringIO(), width=100, force_terminal=True, color_system=None, highlight=False))


def shown(screen, *renderables):
    screen.console.file = io.StringIO()
    screen.console.print(*renderables)
    return screen.console.file.getvalue()


def test_a_terminal_shows_the_curves_and_the_findings_by_name(screen, history):
    screen.look(history())
    text = shown(screen, screen.panel("step 50 of 50"))
    assert "accuracy" in text and "0.5625" in text and "▁" in text
    assert "note: weights_idle, steps 10-50" in text


def test_a_panel_without_a_step_shows_where_the_run_stands(screen, history):
    screen.look(history(steps=0))
    assert shown(screen, screen.panel("step 0 of 50, running")).startswith("step 0 of 50, running\n")


def test_a_finding_is_said_once_until_it_becomes_graver(screen, make_run):
    def gap(steps, value):
        lines = [{"step": step, "rollout/logprob_gap/mean": value} for step in range(1, steps + 1)]
        return History(make_run(lines), lines)

    screen.look(gap(20, 0.1))
    assert "warning: sampler_gap" in screen.console.file.getvalue()
    screen.console.file = io.StringIO()
    screen.look(gap(21, 0.1))
    assert screen.console.file.getvalue() == ""
    screen.look(gap(22, 0.9))
    assert "problem: sampler_gap" in screen.console.file.getvalue()


def test_a_sparkline_spans_from_its_lowest_to_its_highest_value():
    assert sparkline(Series("x", [1, 2, 3], [0.0, 1.0, 2.0])) == "▁▄█"
    assert sparkline(Series("x", [1, 2], [3.0, 3.0])) == "▁▁"
    assert len(sparkline(Series("x", list(range(99)), [float(i) for i in range(99)]))) == 40
