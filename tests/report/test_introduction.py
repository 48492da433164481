from tests.report.rollouts import group

from fipo.doctor.run.rules_drift import SIGNAL_STEPS
from fipo.report.introduction import introduction
from fipo.telemetry.run_directory import RunDirectory


def run_of(path, train=None, **records):
    run = RunDirectory(path)
    run.create({"run": {"name": path.name}, **({"data": {"grader": "number", "train": train}} if train else {})})
    if records:
        run.write_rollouts(1, group(1, **records))
    return run


def test_it_says_what_the_task_is_with_an_example(tmp_path):
    told = introduction({"first": run_of(tmp_path / "first", {"source": "signed_sums"}, prompt="2+2=", expected="4")})
    assert "<b>The task.</b> Sums of digits with signs" in told and "The grader is <code>number</code>." in told
    assert "For example <code>2+2=</code>, to which <code>4</code> is right." in told


def test_problems_of_a_file_or_of_the_hub_are_called_by_its_name(tmp_path):
    file = run_of(tmp_path / "file", {"source": "file", "path": ["a.jsonl", "<b>.jsonl"]})
    assert "Problems of a.jsonl, &lt;b&gt;.jsonl." in introduction({"file": file})
    hub = run_of(tmp_path / "hub", {"source": "hub", "name": "openai/gsm8k"})
    assert "Problems of openai/gsm8k." in introduction({"hub": hub})


def test_of_a_long_prompt_the_end_is_shown_as_text(tmp_path):
    run = run_of(tmp_path / "long", {"source": "countdown"}, prompt="x" * 500 + "<img>2+2=")
    told = introduction({"long": run})
    assert "xxx&lt;img&gt;2+2=</code>" in told and "x" * 200 not in told


def test_a_run_that_says_nothing_of_its_task_is_introduced_all_the_same(tmp_path):
    told = introduction({"cluster": run_of(tmp_path / "cluster")})
    assert "The task." not in told
    assert "What f is." in told and "What good looks like." in told


def test_what_good_looks_like_holds_for_a_lower_bound_of_1_and_a_signal_in_its_band(tmp_path):
    told = introduction({"first": run_of(tmp_path / "first")})
    assert "few are at a bound\nother than 1" in told
    assert "judges the mean of up to 50 steps" in told and SIGNAL_STEPS == 50


def test_of_a_run_without_weights_nothing_is_said_of_how_far_they_should_go(tmp_path):
    dapo, fipo = RunDirectory(tmp_path / "dapo"), run_of(tmp_path / "fipo")
    dapo.create({"resolved": {"objective": {"influence_clip": [1.0, 1.0]}}})
    assert "f leaves 1" not in introduction({"dapo": dapo})
    assert "f leaves 1" in introduction({"dapo": dapo, "fipo": fipo})


def test_a_damaged_rollout_is_no_example(tmp_path):
    run = run_of(tmp_path / "first", {"source": "relay"}, prompt="1")
    run.rollout_files()[1].write_text("{\n")
    assert "For example" not in introduction({"first": run})
