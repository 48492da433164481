"""The fault programs, shortened; `python -m tests.faults --help` runs them at length."""

import shutil
from pathlib import Path

import pytest
from tests.faults.damage import damage_and_compare, damage_evals_and_compare
from tests.faults.disk import fail_every_write
from tests.faults.kills import kill_and_compare, kill_evals_and_compare


@pytest.mark.slow
def test_twenty_sigkills_leave_no_trace_in_the_result(tmp_path: Path) -> None:
    died = kill_and_compare(tmp_path, kills=20, seed=0, say=print)
    assert died.total() == 20
    assert died["inside saving"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["lora", "8bit"])
def test_nor_do_they_with_adapters_or_states_in_8_bits(tmp_path: Path, mode: str) -> None:
    assert kill_and_compare(tmp_path, kills=8, seed=1, say=print, mode=mode).total() == 8


@pytest.mark.slow
def test_killed_evaluations_end_with_the_same_results(tmp_path: Path) -> None:
    assert kill_evals_and_compare(tmp_path, kills=8, seed=0, say=print) >= 1  # how many it takes is a matter of speed


@pytest.mark.slow
def test_some_damages_are_mended_or_refused(tmp_path: Path) -> None:
    assert damage_and_compare(tmp_path, every=60, first=11, say=print).total() >= 3


@pytest.mark.slow
def test_every_ninth_damage_of_a_run_is_mended_or_refused(tmp_path: Path) -> None:
    came = damage_and_compare(tmp_path, every=9, say=print)
    assert came["the same bits"] > 15 and came["one line that refuses"] > 4


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["lora", "8bit"])
def test_so_are_those_of_a_run_with_adapters_or_states_in_8_bits(tmp_path: Path, mode: str) -> None:
    assert damage_and_compare(tmp_path, every=60, say=print, mode=mode).total() >= 3


@pytest.mark.slow
def test_some_damages_of_an_evaluation_are_mended_or_refused(tmp_path: Path) -> None:
    assert damage_evals_and_compare(tmp_path, every=6, say=print).total() >= 3


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="the failing disk is a few lines of C")
def test_a_disk_that_fails_at_any_write_loses_nothing(tmp_path: Path) -> None:
    fail_every_write(tmp_path, every=23, say=print)
