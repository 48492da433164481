import io
import re

import pytest

from fipo.errors import UserError
from fipo.report import summary_table
from fipo.report.summary import summarize
from fipo.telemetry.progress import PatientConsole
from fipo.telemetry.run_directory import RunDirectory


def rendered(run):
    """The table as a terminal shows it: {label: cells}, and its other lines."""
    out = io.StringIO()
    PatientConsole(file=out, width=250, no_color=True).print(summary_table(run))
    lines = [[cell.strip() for cell in re.split("[│┃]", line.strip("│┃"))] for line in out.getvalue().splitlines()]
    return {line[0]: line[1:] for line in lines if len(line) == 4}, out.getvalue()


def test_the_numbers_of_the_table_are_those_of_the_metrics(make_run):
    run = make_run()
    table, _ = rendered(run)
    first, last = run.read_metrics()[0], run.read_metrics()[-1]
    for label, key in (("greedy", "greedy"), ("avg@8", "avg_at_k"), ("pass@8", "pass_at_k")):
        before, after, change = table[label]
        for cell, metrics in ((before, first), (after, last)):
            expected = [metrics[f"eval/{name}"] for name in (key, f"ci/{key}/low", f"ci/{key}/high")]
            assert [float(number) / 100 for number in re.findall(r"[\d.]+", cell)] == pytest.approx(
                expected, abs=5.1e-4
            )
        assert float(change) / 100 == pytest.approx(last[f"eval/{key}"] - first[f"eval/{key}"], abs=5.1e-4)
    assert table["mean response length"] == ["24.2", "32.6", "+8.4"]


def test_the_table_reads_as_expected(make_run):
    table, text = rendered(make_run())
    assert table[""] == ["before", "after step 4", "change"]
    assert table["greedy"] == ["25.0 [18.8, 28.1]", "60.0 [53.8, 63.1]", "+35.0"]
    assert table["avg@8"] == ["12.5 [6.2, 15.6]", "52.5 [46.2, 55.6]", "+40.0"]
    assert table["pass@8"] == ["50.0 [43.8, 53.1]", "46.0 [39.8, 49.1]", "-4.0"]
    assert "held-out accuracy, % [95% interval]" in text


def test_the_labels_follow_the_number_of_samples(make_run):
    table, _ = rendered(make_run(samples=32))
    assert {"avg@32", "pass@32"} < set(table)


def test_steps_after_the_last_evaluation_do_not_count(make_run):
    table, _ = rendered(make_run(steps=3))
    assert table[""][1] == "after step 2"


def test_a_run_with_one_evaluation_has_no_change_to_show(make_run):
    summary = summarize(make_run(steps=1).read_metrics(), {})
    assert summary.columns == ("before",)
    assert summary.rows["avg@k"] == ("12.5 [6.2, 15.6]",)


def test_what_only_one_of_the_evaluations_has_is_left_out():
    metrics = [{"step": 2, "eval/avg_at_k": 0.5, "eval/greedy": 0.5}, {"step": 4, "eval/avg_at_k": 0.75}]
    summary = summarize(metrics, {"eval": {"samples": 4}})
    assert summary.columns == ("step 2", "after step 4", "change")
    assert summary.rows == {"avg@4": ("50.0", "75.0", "+25.0")}


def test_a_path_with_brackets_is_shown_whole(make_run):
    run = make_run("[red]first[/red]")
    _, text = rendered(run)
    assert str(run.path) in text.replace("\n", "")


def test_a_run_without_an_evaluation_is_refused_in_one_line(tmp_path):
    run = RunDirectory(tmp_path / "new")
    run.create({"eval": {"samples": 8}})
    run.append_metrics({"step": 1, "reward/mean": 0.5})
    with pytest.raises(UserError) as error:
        summary_table(run)
    assert str(error.value) == f"{run.path}: no evaluation has been written yet"
