"""`fipo doctor RUN` as it is typed."""

import pytest

from fipo.cli import main
from fipo.doctor.run.examination import RULES
from fipo.telemetry.run_directory import RunDirectory
from fipo.telemetry.run_lock import run_lock


@pytest.fixture
def doctor(capsys):
    def run(*arguments):
        code = main(["doctor", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def test_a_healthy_run_is_called_healthy_with_what_was_checked(doctor, make_run):
    run = make_run()
    code, out, err = doctor(run.path)
    assert (code, err) == (0, "")
    first, *_, last = out.splitlines()
    assert first == f"{run.path}: step 50 of 50, finished"
    assert last == "healthy: 15 rules found nothing, 1 note"
    assert "ratio_off (fipo/ratio_mean is not recorded)" in out
    assert "spread_off (rollouts/ holds no responses" in out
    assert all(rule in out for rule in RULES)


def test_a_problem_is_printed_with_what_to_try_and_ends_with_1(doctor, make_run):
    lines = [{"step": step, "accuracy/mean": 0.5 if step < 30 else 0.1} for step in range(1, 51)]
    code, out, _ = doctor(make_run(lines).path)
    assert code == 1
    assert "problem: reward_collapse, steps 34-50: accuracy/mean fell from 0.50 at step 33 to 0.10" in out
    assert "  try: go on from the best checkpoint" in out
    assert out.endswith("1 problem\n")


def test_warnings_end_with_0(doctor, make_run):
    lines = [{"step": step, "rollout/logprob_gap/mean": 0.1} for step in range(1, 51)]
    code, out, _ = doctor(make_run(lines).path)
    assert code == 0
    assert out.endswith("1 warning\n")


def test_a_run_at_work_may_be_looked_at(doctor, make_run):
    run = make_run([{"step": 1, "time/step": 2.0}])
    run.metrics.write_text(run.metrics.read_text() + '{"step": 2, "ti')
    with run_lock(run.path):
        code, out, _ = doctor(run.path)
    assert code == 0
    assert f"{run.path}: step 1 of 50, running, 2.0 s a step, 0:01:38 left" in out
    assert out.splitlines()[-1].startswith("too few steps or metrics to tell")


def test_a_collected_run_is_judged_by_what_it_has(doctor, tmp_path):
    run = RunDirectory(tmp_path / "verl")
    run.create({"run": {"name": "verl"}, "verl": {"metrics": ["log.jsonl"]}})
    for step in range(1, 31):
        run.append_metrics({"step": step, "reward/mean": 0.1, "policy/entropy": 0.3 if step < 15 else 0.01})
    code, out, _ = doctor(run.path)
    assert code == 0
    assert out.startswith(f"{run.path}: 30 steps\nwarning: entropy_collapse, ")
    assert "grader_failures (grade/timeout is not recorded)" in out


@pytest.mark.parametrize(
    ("arguments", "culprit"),
    [
        (["--run.steps", "3"], "--run.steps"),
        (["--no-samples"], "--no-samples"),
        (["--memory-gib", "8"], "--memory-gib"),
    ],
)
def test_what_is_for_recipes_is_refused_in_one_line(arguments, culprit, doctor, make_run):
    expected = f"fipo: doctor RUN takes --watch alone, got {culprit}, which is for recipes\n"
    assert doctor(make_run().path, *arguments) == (2, "", expected)


def test_a_folder_that_is_no_run_is_refused(doctor, tmp_path):
    assert doctor(tmp_path) == (2, "", f"fipo: {tmp_path}: not a run directory (it has no config.toml)\n")


def test_damaged_metrics_are_named(doctor, make_run):
    run = make_run()
    run.metrics.write_text('{"step": 1}\n{"step": \n')
    code, out, err = doctor(run.path)
    assert (code, out) == (2, "")
    assert err.startswith(f"fipo: {run.metrics}, line 2: damaged: ")
