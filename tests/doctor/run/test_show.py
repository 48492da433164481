import io

import pytest
from rich.console import Console

from fipo.doctor.findings import Finding
from fipo.doctor.run.examination import RULES, Examination, examine
from fipo.doctor.run.show import show_examination, standing, verdict
from fipo.doctor.show import show_finding
from fipo.telemetry.run_directory import RunDirectory


def finding(level):
    return Finding(level=level, steps=(1, 2), text="", advice="")


def test_notes_alone_are_healthy():
    found = Examination({"a": finding("note"), "b": finding("note")}, ["c"], {})
    assert verdict(found) == "healthy: 1 rules found nothing, 2 notes"


def test_a_problem_is_counted_beside_the_rest():
    found = Examination({"a": finding("problem"), "b": finding("note")}, ["c"], {})
    assert verdict(found) == "1 problem, 1 note"


def test_a_run_that_has_just_begun_is_not_called_healthy(history):
    assert verdict(examine(history(steps=3))).startswith("too few steps or metrics to tell: ")


def test_notes_of_a_short_run_do_not_make_it_healthy(history):
    found = examine(history(steps=12))
    assert found.findings
    assert verdict(found) == "too few steps or metrics to tell: 14 rules could not be checked, 1 note"


def test_rules_that_could_not_be_checked_for_one_reason_stand_together():
    console = Console(file=io.StringIO())
    show_examination(console, Examination({}, [], {"a": "no steps", "b": "not recorded", "c": "no steps"}))
    assert console.file.getvalue().startswith("not checked:\n  a, c (no steps)\n  b (not recorded)\n")


def test_a_long_list_of_rules_reads_at_80_columns_and_names_each_of_them():
    console = Console(file=io.StringIO())
    show_examination(console, Examination({}, list(RULES), {}))
    out = console.file.getvalue()
    assert max(map(len, out.splitlines())) <= 80
    assert out.startswith("nothing found by: ") and all(f" {rule}" in out for rule in RULES)


@pytest.mark.parametrize("in_terminal", [True, False])
def test_a_finding_is_broken_between_words_in_a_terminal_and_one_line_in_a_file(in_terminal):
    console = Console(file=io.StringIO(), force_terminal=in_terminal, width=80, color_system=None)
    show_finding(console, Finding(level="note", steps=(1, 2), text="word " * 30 + "end", advice="key " * 30), "rule")
    lines = console.file.getvalue().splitlines()
    assert (len(lines) > 2) is in_terminal
    assert " ".join(console.file.getvalue().split()).count("word word") == 15
    assert (max(map(len, lines)) <= 80) is in_terminal


def test_a_finished_run_says_so(history):
    assert standing(history(), running=False) == "step 50 of 50, finished"


def test_a_running_one_says_how_long_it_takes(history):
    timed = history(lambda *_: {"time/step": 4.0}, steps=20)
    assert standing(timed, running=True) == "step 20 of 50, running, 4.0 s a step, 0:02:00 left"


def test_one_without_a_step_has_no_rate(history):
    assert standing(history(steps=0), running=True) == "step 0 of 50, running"


def test_one_that_stopped_early_says_so(history):
    assert standing(history(steps=20), running=False) == "step 20 of 50, not running and not finished"


def test_one_that_stalled_names_its_stacks(history):
    stalled = history(steps=20)
    stalled.run.stall.write_text("no sign of life")
    assert standing(stalled, running=False).endswith(f"it stalled, see {stalled.run.stall}")


def test_a_collected_run_says_how_many_steps_it_has(history, tmp_path):
    run = RunDirectory(tmp_path / "verl")
    run.create({"run": {"name": "verl"}})
    assert standing(type(history())(run, [{"step": 7}]), running=False) == "7 steps"
