import json
import os
import shutil
import signal
import subprocess
import sys
import time
from datetime import date
from statistics import fmean

import pytest
import torch
from tests.evaluation.helpers import RECIPE, recipe_in

from fipo.cli import main
from fipo.errors import UserError
from fipo.evaluation.results import ResultsFolder
from fipo.evaluation.score import score
from fipo.models.loading import EMBEDDED_FOLDER, load
from fipo.rollout import prompts
from fipo.telemetry.lines import whole_lines
from fipo.telemetry.run_directory import RunDirectory


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An evaluation that nothing disturbed."""
    return score(recipe_in(tmp_path_factory.mktemp("finished")))


def content(folder):
    return folder.results.read_bytes(), json.loads(folder.summary.read_bytes()) | {"recipe": None}


def test_every_problem_is_a_line_and_every_sample_has_its_grade(finished):
    results = finished.read()
    assert len(results) == len({result["id"] for result in results}) == 6
    for result in results:
        assert len(result["samples"]) == 3
        assert len({sample["seed"] for sample in result["samples"]}) == 3
        for sample in result["samples"]:
            assert 1 <= sample["tokens"] <= 24
            assert sample["truncated"] <= (sample["tokens"] == 24)
            assert sample["correct"] == (sample["outcome"] == "correct") == (sample["vote"] == 0)
            assert not sample["correct"] or sample["answer"] == result["expected"]


def test_the_summary_says_who_answered_what_and_how_well(finished):
    summary, results = finished.read_summary(), finished.read()
    correct = [[sample["correct"] for sample in result["samples"]] for result in results]
    assert summary["estimates"]["avg@3"]["value"] == pytest.approx(fmean(map(fmean, correct)))
    assert set(summary["estimates"]) == {"avg@3", "cons@3", "pass@1", "pass@2", "pass@3"}
    assert summary["answered_by"]["path"] == "embedded"
    assert len(summary["answered_by"]["sha256"]) == 64
    assert summary["recipe"]["sampling"]["samples"] == 3
    assert summary["versions"]["torch"] == torch.__version__


def test_the_config_of_an_evaluation_is_a_recipe_that_gives_the_same(finished, tmp_path):
    again = score(recipe_in(tmp_path, finished.config.read_text()))
    assert content(again) == content(finished)


def begun(recipe, samples):
    """The folder of an evaluation that was stopped with these bytes in samples.jsonl."""
    folder = ResultsFolder(recipe.output.path)
    folder.path.mkdir(parents=True)
    folder.samples.write_bytes(samples)
    return folder


def asked_in(folder):
    """(problem, number of the sample) in the order in which they were asked."""
    ids = {result["key"]: result["id"] for result in folder.read()}
    lines = map(json.loads, folder.samples.read_text().splitlines())
    return [(ids[sample["key"]], sample["number"]) for line in lines for sample in line["samples"]]


DATED = "{{ strftime_now('%d') }}+{% for m in messages %}{{ m['content'] }}{% endfor %}"


def on(day):
    return type("Today", (date,), {"today": lambda: date.fromisoformat(day)})


def test_an_evaluation_continued_on_another_day_asks_the_same_prompts(tmp_path, monkeypatch):
    shutil.copytree(EMBEDDED_FOLDER, tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text(DATED)
    chat = {"model__path": str(tmp_path / "model"), "data__prompt_format": '"chat"', "model__decode_batch": "4"}
    monkeypatch.setattr(prompts, "date", on("2026-01-30"))
    whole = score(recipe_in(tmp_path, output__name="whole", **chat))
    recipe = recipe_in(tmp_path, output__name="parts", **chat)
    parts = ResultsFolder(recipe.output.path)
    parts.path.mkdir(parents=True)
    parts.samples.write_bytes(b"".join(whole.samples.read_bytes().splitlines(keepends=True)[:2]))
    parts.config.write_bytes(whole.config.read_bytes())
    monkeypatch.setattr(prompts, "date", on("2026-01-31"))
    assert content(score(recipe)) == content(whole)
    assert score(recipe_in(tmp_path, output__name="later", **chat)).results.read_bytes() != whole.results.read_bytes()


FOUR_AT_A_TIME = {"model__decode_batch": "4"}  # 18 samples in 5 lines


def test_a_torn_line_is_dropped_and_what_is_missing_is_answered_with_the_same_bits(tmp_path):
    whole = score(recipe_in(tmp_path, output__name="whole", **FOUR_AT_A_TIME))
    lines = whole.samples.read_bytes().splitlines(keepends=True)
    recipe = recipe_in(tmp_path, **FOUR_AT_A_TIME)
    folder = begun(recipe, lines[0] + lines[1] + lines[2][:100])
    assert len(lines) == 5
    assert content(score(recipe)) == content(whole)
    assert folder.samples.read_bytes() == whole.samples.read_bytes()


def test_what_is_answered_is_not_asked_again(finished, tmp_path, capsys):
    recipe = recipe_in(tmp_path)
    (line,) = map(json.loads, finished.samples.read_text().splitlines())
    line["samples"][3]["sample"]["text"] = "kept"
    folder = begun(recipe, json.dumps(line).encode() + b"\n")
    assert score(recipe).read()[1]["samples"][0]["text"] == "kept"
    assert f"{folder.path}: 18 of 18 samples are there already\n" in capsys.readouterr().out


def test_more_problems_are_asked_on_top_and_the_first_stay_as_they_are(finished, tmp_path):
    recipe = recipe_in(tmp_path, data__eval__count="9")
    folder = begun(recipe, finished.samples.read_bytes())
    score(recipe)
    assert folder.read()[:6] == finished.read()
    assert folder.samples.read_bytes().startswith(finished.samples.read_bytes())
    alone = score(recipe_in(tmp_path, data__eval__count="9", output__name="alone"))
    assert content(alone) == content(folder)


def test_of_more_samples_only_the_missing_ones_are_asked_and_the_result_is_that_of_all_at_once(tmp_path, capsys):
    four = score(recipe_in(tmp_path, sampling__samples="4"))
    first = asked_in(four)
    capsys.readouterr()
    eight = score(recipe_in(tmp_path, sampling__samples="8"))
    assert f"{eight.path}: 24 of 48 samples are there already\n" in capsys.readouterr().out
    assert first == [(result["id"], number) for result in eight.read() for number in range(4)]
    assert asked_in(eight) == first + [(result["id"], number) for result in eight.read() for number in range(4, 8)]
    assert content(eight) == content(score(recipe_in(tmp_path, sampling__samples="8", output__name="at_once")))


def test_of_fewer_samples_the_first_are_taken_and_the_others_kept(tmp_path):
    eight = score(recipe_in(tmp_path, sampling__samples="8"))
    at_first, asked = content(eight), eight.samples.read_bytes()
    four = score(recipe_in(tmp_path, sampling__samples="4"))
    assert content(four) == content(score(recipe_in(tmp_path, sampling__samples="4", output__name="alone")))
    assert four.samples.read_bytes() == asked
    assert content(score(recipe_in(tmp_path, sampling__samples="8"))) == at_first
    assert four.samples.read_bytes() == asked


def test_of_fewer_problems_the_results_are_taken_and_the_others_kept(finished, tmp_path):
    twelve = score(recipe_in(tmp_path, data__eval__count="12"))
    asked = twelve.samples.read_bytes()
    six = score(recipe_in(tmp_path))
    assert content(six) == content(finished)
    assert six.samples.read_bytes() == asked


def test_a_problem_that_reads_otherwise_is_another_one(finished, tmp_path):
    question = tmp_path / "one.jsonl"
    data = {"data__eval": f'{{ source = "file", path = "{question}" }}'}
    for answer, known in (("4", 0), ("5", 1), ("4", 2)):
        question.write_text(json.dumps({"id": "same", "problem": "2+2=", "answer": answer}) + "\n")
        folder = score(recipe_in(tmp_path, **data))
        assert [result["expected"] for result in folder.read()] == [answer]
        assert len(folder.samples.read_bytes().splitlines()) == min(known + 1, 2)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sampling__temperature", "0.5"),
        ("sampling__seed", "1"),
        ("sampling__max_response_tokens", "25"),
        ("data__grader", "exact"),
        ("model__dtype", "bfloat16"),
    ],
)
def test_results_of_something_else_are_left_alone(key, value, finished, tmp_path):
    recipe = recipe_in(tmp_path, **{key: value})
    folder = begun(recipe, finished.samples.read_bytes())
    with pytest.raises(
        UserError, match=r"its samples are of another model, grader, prompt format or \[sampling\]; choose"
    ):
        score(recipe)
    assert [path.name for path in folder.path.iterdir()] == ["samples.jsonl"]
    assert folder.samples.read_bytes() == finished.samples.read_bytes()


def test_results_of_an_older_version_are_left_alone(finished, tmp_path):
    recipe = recipe_in(tmp_path)
    folder = ResultsFolder(recipe.output.path)
    folder.path.mkdir(parents=True)
    folder.write(finished.read())
    with pytest.raises(UserError, match=r"an older version evaluated here; choose another --output\.name"):
        score(recipe)
    assert folder.read() == finished.read()


def test_a_training_run_is_not_written_over(tmp_path):
    run = RunDirectory(tmp_path / "evals" / "first")
    run.create({"run": {}})
    before = run.config.read_bytes()
    with pytest.raises(UserError, match="something else than an evaluation is there"):
        score(recipe_in(tmp_path))
    assert run.config.read_bytes() == before


def test_a_damaged_line_is_named(finished, tmp_path):
    recipe = recipe_in(tmp_path)
    begun(recipe, b"{}\n" + finished.samples.read_bytes())
    with pytest.raises(UserError, match=r"samples\.jsonl, line 1: damaged: it lacks keys"):
        score(recipe)


@pytest.mark.parametrize(
    "change",
    [
        lambda line: line["samples"].append(3),
        lambda line: line["samples"][0].pop("number"),
        lambda line: line["samples"][0].update(sample=[]),
        lambda line: line["samples"][0]["sample"].pop("outcome"),
        lambda line: line["samples"][0]["sample"].update(correct=None),
        lambda line: line.update(samples=7),
        lambda line: line.update(settings=None),
    ],
)
def test_a_line_of_samples_of_another_shape_is_named(finished, tmp_path, change):
    recipe = recipe_in(tmp_path)
    line = json.loads(finished.samples.read_bytes().splitlines()[0])
    change(line)
    begun(recipe, json.dumps(line).encode() + b"\n")
    with pytest.raises(UserError, match=r"samples\.jsonl, line 1: damaged: .*lacks"):
        score(recipe)


def test_a_run_answers_with_its_newest_checkpoint_and_has_the_hash_of_its_weights(finished, tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.create({"run": {}})
    model, tokenizer = load("embedded")
    for step in (1, 2):
        model.save_pretrained(run.checkpoints / f"step_{step:06d}")
        tokenizer.save_pretrained(run.checkpoints / f"step_{step:06d}")
        with torch.no_grad():
            next(model.parameters()).add_(1.0)  # after the first, so the second is another model
    (run.checkpoints / "step_000002").rename(run.checkpoints / "step_000000")  # now the first is the newest
    folder = score(recipe_in(tmp_path, model__path=str(run.path)))
    embedded, trained = (f.read_summary()["answered_by"] for f in (finished, folder))
    assert trained["sha256"] == embedded["sha256"]
    assert folder.results.read_bytes() == finished.results.read_bytes()
    other = score(recipe_in(tmp_path, model__path=str(run.checkpoints / "step_000000"), output__name="other"))
    assert other.read_summary()["answered_by"]["sha256"] != embedded["sha256"]


def test_a_run_without_a_checkpoint_is_refused(tmp_path):
    run = RunDirectory(tmp_path / "run")
    run.create({"run": {}})
    with pytest.raises(UserError, match=r"run: no checkpoint has been written yet"):
        score(recipe_in(tmp_path, model__path=str(run.path)))


def test_another_prompt_format_than_in_training_is_noted(tmp_path, capsys):
    run = RunDirectory(tmp_path / "run")
    run.create({"data": {"prompt_format": "chat"}})
    model, tokenizer = load("embedded")
    model.save_pretrained(run.checkpoints / "step_000001")
    tokenizer.save_pretrained(run.checkpoints / "step_000001")
    score(recipe_in(tmp_path, model__path=str(run.path), data__eval__count="1"))
    assert f'note: data.prompt_format is "raw", and {run.path} was trained with "chat"\n' in capsys.readouterr().out


def test_what_does_not_fit_the_models_positions_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"max_prompt_tokens \+ max_response_tokens must be <= 512"):
        score(recipe_in(tmp_path, sampling__max_response_tokens="512"))
    with pytest.raises(UserError, match=r"at most sampling\.max_prompt_tokens = 2 tokens, got"):
        score(recipe_in(tmp_path, sampling__max_prompt_tokens="2"))
    assert not (tmp_path / "evals" / "first").exists()


@pytest.mark.slow
def test_ctrl_c_is_one_line_and_130_and_the_same_command_ends_with_the_same_bits(tmp_path):
    recipe_in(tmp_path, RECIPE.replace("count = 6", "count = 60").replace("samples = 3", "samples = 16"))
    recipe = str(tmp_path / "recipe.toml")

    def command(name):
        one_at_a_time = ["--model.decode_batch", "16"]  # 16 samples in a line
        return ["eval", recipe, "--output.folder", str(tmp_path), "--output.name", name, *one_at_a_time]

    folder = ResultsFolder(tmp_path / "broken")

    def lines_on_disk():
        return len(whole_lines(folder.samples)) if folder.samples.exists() else 0

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for sent, code in ((signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)):
        lines = lines_on_disk()
        process = subprocess.Popen(
            [sys.executable, "-m", "fipo.cli", *command("broken")], stderr=subprocess.PIPE, text=True, env=environment
        )
        until = time.monotonic() + 120
        while lines_on_disk() <= lines and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(sent)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == code, errors
        if sent == signal.SIGINT:
            assert errors.startswith("fipo: interrupted with ") and errors.count("\n") == 1
        assert lines < lines_on_disk() < 60
    assert main(command("broken")) == 0
    assert main(command("whole")) == 0
    assert content(folder) == content(ResultsFolder(tmp_path / "whole"))


@pytest.mark.parametrize("folder", ["\0", ""])
def test_a_folder_that_cannot_be_is_refused(folder, tmp_path):
    with pytest.raises(UserError, match=r"output\.folder"):
        recipe_in(tmp_path, output__folder=folder)
